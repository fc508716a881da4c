"""`ray job submit` runs this: crlft evaluate MODEL... [options]."""

import sys

from crlft_ray.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["evaluate"]
    main()
