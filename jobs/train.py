"""`ray job submit` runs this: crlft train CONFIG [--set key=value ...]."""

import sys

from crlft_ray.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["train"]
    main()
