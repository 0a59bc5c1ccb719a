"""Submits seeds of one concentrator as a batch, waits for all, sums their counts, and prints where the light goes.

A client: it needs the package `crunch` only. The API is at CRUNCH_URL, by default http://127.0.0.1:8080.
"""

import argparse
import math
import sys
from collections import Counter

import crunch
from crunch.errors import Error

EDGES = ("left", "right", "near", "far")

WAIT_S = 3600
"""How long to wait for a job. Others may be in the queue, too."""


def main():
    options = _options()
    slab = {
        "size_cm": options.size,
        "refractive_index": options.refractive_index,
        "dye_absorption_per_cm": options.dye,
        "wavelength_nm": options.wavelength,
        "rays": options.rays,
    }
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    try:
        with crunch.Client() as client:
            print_table(sum_of(client, slab, seeds))
    except Error as error:
        sys.exit(f"sum.py: {error}")


def sum_of(client, slab, seeds):
    """Returns the counts of all seeds together."""
    jobs = []
    with client.batch(on_job=jobs.append) as batch:
        for seed in seeds:
            batch.submit("crunch", {**slab, "seed": seed})
    total = Counter()
    for seed, job in zip(seeds, jobs, strict=True):
        counts = job.result(timeout=WAIT_S)
        print(f"seed {seed}: {sum(counts[edge] for edge in EDGES)} of {slab['rays']} rays reached an edge", flush=True)
        total.update(counts)
    return total


def print_table(counts):
    """Prints each fate with its share, and the optical efficiency: the part of the light that reaches the edges."""
    rays = counts.total()
    edges = sum(counts[edge] for edge in EDGES)
    others = [fate for fate in counts if fate not in EDGES]
    rows = [("edges", edges), *((f"  {edge}", counts[edge]) for edge in EDGES)]
    rows += [(fate, counts[fate]) for fate in others if counts[fate]]
    print(f"\n{'':12}{'rays':>8}{'%':>8}{'±':>6}")
    for fate, count in rows:
        share, error = _share(count, rays)
        print(f"{fate:12}{count:8}{share:8.1f}{error:6.1f}")
    print(f"{'total':12}{rays:8}{100:8.1f}")
    share, error = _share(edges, rays)
    print(f"\noptical efficiency of the edges: {share:.1f} % ± {error:.1f} %")


def _share(count, rays):
    """Returns the share and its standard error, in percent."""
    share = count / rays
    return 100 * share, 100 * math.sqrt(share * (1 - share) / rays)


def _options():
    parser = argparse.ArgumentParser(
        description="Traces rays through a luminescent solar concentrator, and prints where they end.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--seeds", type=_at_least_one, default=8, help="how many jobs, each with a seed of its own")
    parser.add_argument("--first-seed", type=int, default=0, help="the seed of the first job")
    parser.add_argument("--rays", type=int, default=500, help="rays of each job, at most 2000")
    parser.add_argument("--size", type=float, nargs=3, default=[5, 5, 1], metavar="CM", help="length, width, height")
    parser.add_argument("--refractive-index", type=float, default=1.5, help="of the concentrator")
    parser.add_argument("--dye", type=float, default=10, metavar="PER_CM", help="absorption at the peak of the dye")
    parser.add_argument("--wavelength", type=float, default=555, metavar="NM", help="of the light")
    return parser.parse_args()


def _at_least_one(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


if __name__ == "__main__":
    main()
