"""What all tests share."""

from hypothesis import settings

# The same examples in every run: what passes here passes elsewhere. To search further:
# pytest --hypothesis-profile=default
settings.register_profile("repeatable", derandomize=True, print_blob=True)
settings.load_profile("repeatable")
