"""`vicinal device` that writes the most memory it had, in bytes: `… FILE --users 7 …`."""

import sys
from pathlib import Path


def main() -> None:
    from sims.cli import run  # noqa: PLC0415 - whatever it loads counts

    code = run(["device", *sys.argv[2:]])
    status = Path("/proc/self/status").read_text()
    most = 1024 * int(status.partition("VmHWM:")[2].split()[0])
    Path(sys.argv[1]).write_text(str(most))
    sys.exit(code)


if __name__ == "__main__":
    main()
