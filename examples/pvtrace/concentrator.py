"""The task `crunch` of this example: rays of light through a luminescent solar concentrator.

The worker starts `python -m crunch concentrator` in the virtual environment of this folder. pvtrace is imported here,
before the process reports that it is ready, so a job never waits for it.
"""

from dataclasses import dataclass
from typing import Annotated

import crunch

import pvtrace_scene

RAYS_PER_REPORT = 10
"""About a tenth of a second."""

MAX_UNTRACED = 0.01
"""The part of a job's rays that pvtrace may be unable to trace. Of 10 000 rays it was none: more than a few mean that
the installation is broken, and then the other counts are wrong, too."""

Centimeters = Annotated[float, crunch.Range(0.05, 100)]


@dataclass(frozen=True)
class Slab:
    """A box with a dye, below light of one wavelength, and how many rays to follow through it."""

    size_cm: tuple[Centimeters, Centimeters, Centimeters] = (5.0, 5.0, 1.0)
    refractive_index: Annotated[float, crunch.Range(1, 3)] = 1.5
    # The absorption coefficient at the peak of the dye, 578 nm, which is proportional to its concentration.
    dye_absorption_per_cm: Annotated[float, crunch.Range(0, 1000)] = 10.0
    wavelength_nm: Annotated[float, crunch.Range(350, 850)] = 555.0
    # For more rays, submit more seeds and sum their counts.
    rays: Annotated[int, crunch.Range(1, 2000)] = 1000
    # What NumPy accepts.
    seed: Annotated[int, crunch.Range(0, 2**32 - 1)] = 0


# 2 000 rays take 12 s, and 13 minutes if each takes all its steps.
@crunch.task("crunch", queue="optics", timeout="30m", max_attempts=2)
def trace(slab: Slab, job: crunch.Job) -> dict[str, int]:
    """Follow rays of light through a luminescent solar concentrator, and count where they end."""
    counts = dict.fromkeys(pvtrace_scene.FATES, 0)
    fates = pvtrace_scene.fates(
        size_cm=slab.size_cm,
        refractive_index=slab.refractive_index,
        dye_absorption_per_cm=slab.dye_absorption_per_cm,
        wavelength_nm=slab.wavelength_nm,
        rays=slab.rays,
        seed=slab.seed,
    )
    for number, fate in enumerate(fates, 1):
        counts[fate] += 1
        untraced = counts["untraced"]
        if untraced > MAX_UNTRACED * slab.rays:
            # The same seed would fail again.
            raise crunch.Fail("untraceable", f"pvtrace could not trace {untraced} of {number} rays: see the log")
        if number % RAYS_PER_REPORT == 0 or number == slab.rays:
            job.progress(number / slab.rays, f"{number} of {slab.rays} rays")
        # Raises an exception if the job has been canceled.
        job.check()
    return counts
