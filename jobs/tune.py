"""`ray job submit` runs this: crlft tune CONFIG [--set key=value ...]."""

import sys

from crlft_ray.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["tune"]
    main()
