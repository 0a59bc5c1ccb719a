#!/bin/sh
# Prints the ten most frequent lines of standard input, the most frequent first; lines with the same count are sorted.
set -eu

sort | uniq -c | sort -k1,1nr -k2 | head -n 10
