"""What all tests share."""

from hypothesis import settings

# The same examples in every run: what passes here passes elsewhere. To search further:
# pytest --hypothesis-profile=default
# No deadline: on a busy machine an example of a millisecond can take more than Hypothesis' 200.
settings.register_profile("repeatable", derandomize=True, print_blob=True, deadline=None)
settings.load_profile("repeatable")
