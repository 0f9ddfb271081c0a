"""The rows of a GPU, in less than 9 minutes: python -m benchmarks.gpu [OPTIONS] is python -m benchmarks gpu [OPTIONS]."""

import sys

from benchmarks.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "gpu")
    sys.exit(main())
