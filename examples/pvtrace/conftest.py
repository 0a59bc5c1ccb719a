"""pytest imports this before the tests, which import NumPy and pvtrace: pvtrace_scene must have prepared both."""

import pvtrace_scene  # noqa: F401
