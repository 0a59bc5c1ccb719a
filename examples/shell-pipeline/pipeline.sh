#!/bin/sh
# The ten most frequent lines of standard input, the most frequent first; lines of the same count in their order.
set -eu

sort | uniq -c | sort -k1,1nr -k2 | head -n 10
