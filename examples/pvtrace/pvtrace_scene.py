"""A luminescent solar concentrator in pvtrace: its scene, and what becomes of each ray.

pvtrace 2.1.4 is the newest release on PyPI, and older than the packages that it uses today. Everything that is needed
to run it on these is here, each with its reason; no other module imports pvtrace. Nothing here knows about jobs.
"""

import contextlib
import functools
import logging
import os
import sys
import types
from collections.abc import Iterator

# A step of a ray multiplies matrices of 4 x 4. For these, the threads of OpenBLAS only wait for each other: on a busy
# machine a ray takes twice as long with them. NumPy reads the variable when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

if int(np.__version__.split(".")[0]) >= 2:
    # pvtrace calls np.array(…, copy=False), which raises a ValueError since NumPy 2, in the first scene.
    raise ImportError(f"pvtrace 2.1.4 requires NumPy 1, found {np.__version__}: see requirements.txt")

# NumPy removed these aliases in 1.24. pvtrace uses them whenever it makes a node, a spectrum or a surface.
np.float, np.int = float, int


@contextlib.contextmanager
def _replaced_modules(replacements):
    """Replaces modules while pvtrace is imported, and only then: nothing else in the process sees the replacements."""
    before = {name: sys.modules.get(name) for name in replacements}
    sys.modules.update(replacements)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


@contextlib.contextmanager
def _restored_logging():
    """Undoes logging.basicConfig(level=DEBUG), which pvtrace calls when it is imported: it configures the root logger,
    and from then on every library of the process prints its debug messages."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


def _viewer():
    """Returns an empty package instead of meshcat, the viewer.

    Only MeshcatRenderer uses it, which is not used here. It imports IPython: with it, a process takes 2.1 s to start
    instead of 0.4 s and 26 MB more memory, and 24 more packages have to be installed. Without it, no scene can start
    a server or open a browser.
    """
    viewer = types.ModuleType("meshcat", "Not installed: see pvtrace_scene.py")
    viewer.geometry = types.ModuleType("meshcat.geometry")
    viewer.transformations = types.ModuleType("meshcat.transformations")
    return {"meshcat": viewer, "meshcat.geometry": viewer.geometry, "meshcat.transformations": viewer.transformations}


with (
    _restored_logging(),
    _replaced_modules(
        {
            **_viewer(),
            # pvtrace imports pandas without requiring it. Only the reports of LSC use it, and these call
            # DataFrame.append, which pandas 2 removed.
            "pandas": types.ModuleType("pandas", "Not installed: see pvtrace_scene.py"),
            # trimesh prefers embreex if it is installed. That is faster, but finds intersections in single precision,
            # while pvtrace compares their distances with 2e-13: with embreex 4.4 and trimesh before 4.12, rays end in
            # "not enough values to unpack". None makes its import fail, and trimesh uses its own code.
            "embreex": None,
        }
    ),
):
    from pvtrace import LSC, Event, lumogen_f_red_305, photon_tracer, rectangular_mask

logger = logging.getLogger(__name__)

EDGES = ("left", "right", "near", "far")
"""The faces towards -x, +x, -y and +y. Each has a solar cell."""

FATES = ("top", "bottom", *EDGES, "absorbed", "reflected", "missed", "killed", "untraced")
"""Where a ray may end.

A face: it left the concentrator there. `absorbed`: in the material. `reflected`: at the top, without having entered.
`missed`: it never met the concentrator. `killed`: it was still inside after `MAX_STEPS`. `untraced`: pvtrace raised an
exception, as it does for a ray that meets two faces at once.
"""

MAX_STEPS = 400
"""After how many steps a ray is given up. A step takes about a millisecond, so a job stops within half a second after
it is canceled, even if its ray never leaves. Of 10 000 rays in a concentrator of 5 x 5 x 1 cm, none took more than
20."""

QUANTUM_YIELD = 1.0
HOST_ABSORPTION_PER_CM = 0.1
"""The values of `LSC` without parameters: each photon that the dye absorbs is emitted again; some are absorbed by the
material around the dye."""

SPECTRUM_NM = np.arange(300.0, 901.0)
"""Where absorption and emission of the dye are defined. It must be wider than the wavelengths of the light: pvtrace
looks up an emission at a wavelength that is shorter than that of the absorbed photon (by 3/2 kT, which is 4 nm at 350
nm), and raises a ValueError outside."""


def fates(
    *,
    size_cm: tuple[float, float, float],
    refractive_index: float,
    dye_absorption_per_cm: float,
    wavelength_nm: float,
    rays: int,
    seed: int,
) -> Iterator[str]:
    """Follows one ray after the other and yields where each ended: one of `FATES`.

    The same arguments yield the same fates in every process. All random numbers of pvtrace are from NumPy's global
    generator, which is seeded when the first ray is requested: iterate over one call at a time.
    """
    scene = _scene(size_cm, refractive_index, dye_absorption_per_cm, wavelength_nm)
    np.random.seed(seed)
    for number, ray in enumerate(scene.emit(rays), 1):
        yield _fate(scene, ray, size_cm, number)


def _scene(size_cm, refractive_index, dye_absorption_per_cm, wavelength_nm):
    """Returns a new scene: an LSC changes its own description when its scene is made, so it can be used only once.

    Light falls vertically on the whole top face. `simulate` makes the scene, too, but then prints, and fails in pandas.
    """
    length, width, height = (float(side) for side in size_cm)
    concentrator = LSC((length, width, height), n1=refractive_index)
    # pvtrace divides by the integral of the absorption.
    if dye_absorption_per_cm > 0:
        concentrator.add_luminophore(
            "Lumogen F Red 305",
            np.column_stack((SPECTRUM_NM, lumogen_f_red_305.absorption(SPECTRUM_NM) * dye_absorption_per_cm)),
            np.column_stack((SPECTRUM_NM, lumogen_f_red_305.emission(SPECTRUM_NM))),
            quantum_yield=QUANTUM_YIELD,
        )
    # A float: pvtrace ignores a whole number and raises an AttributeError later.
    concentrator.add_absorber("host", HOST_ABSORPTION_PER_CM)
    concentrator.add_light(
        "lamp",
        location=(0.0, 0.0, height),
        rotation=(np.pi, (1, 0, 0)),
        wavelength=lambda: wavelength_nm,
        position=functools.partial(rectangular_mask, length / 2, width / 2),
    )
    concentrator.add_solar_cell(EDGES)
    concentrator._make_scene()
    return concentrator._scene


def _fate(scene, ray, size_cm, number):
    try:
        history = photon_tracer.follow(scene, ray, maxsteps=MAX_STEPS)
    except Exception as error:
        logger.warning("ray %d cannot be traced: %s: %s", number, type(error).__name__, error)
        return "untraced"
    return classify(history, size_cm)


def classify(history, size_cm) -> str:
    """Returns where the ray with this history ended, but `untraced`.

    `LSC` calls the face towards -y near when it places solar cells, and far when it counts rays. Here it is near.
    """
    events = [event for _, event in history]
    if events[-1] is Event.ABSORB:
        return "absorbed"
    if events[-1] is Event.KILL:
        return "killed"
    if events == [Event.GENERATE, Event.EXIT]:
        return "missed"
    if events == [Event.GENERATE, Event.REFLECT, Event.EXIT]:
        return "reflected"
    # The last event is the exit from the world. The one before is the transmission through a face.
    left_at, _ = history[-2]
    return _face(left_at.position, size_cm)


def _face(position, size_cm):
    """Returns the face that the position is on: the one that is nearest, in units of the concentrator's sides."""
    scaled = [float(coordinate) / side for coordinate, side in zip(position, size_cm, strict=True)]
    axis = max(range(3), key=lambda axis: abs(scaled[axis]))
    faces = (("left", "right"), ("near", "far"), ("bottom", "top"))
    return faces[axis][scaled[axis] > 0]
