"""What 100 rays become for each seed, with the defaults of the payload for everything else.

Counted once, with the versions in requirements.txt. Python 3.10, 3.11 and 3.12 count the same.
"""

RAYS = 100

_FATES = ("top", "bottom", "left", "right", "near", "far", "absorbed", "reflected", "missed", "killed", "untraced")

_COUNTS = {
    0: (23, 7, 10, 7, 14, 6, 29, 4, 0, 0, 0),
    1: (17, 6, 12, 14, 16, 14, 17, 4, 0, 0, 0),
    2: (22, 6, 11, 16, 10, 14, 20, 1, 0, 0, 0),
    3: (20, 13, 10, 11, 10, 15, 17, 4, 0, 0, 0),
    4: (13, 11, 9, 14, 11, 12, 26, 4, 0, 0, 0),
    5: (16, 9, 8, 13, 18, 13, 18, 5, 0, 0, 0),
    6: (23, 4, 10, 15, 11, 11, 21, 5, 0, 0, 0),
    7: (23, 8, 16, 9, 13, 12, 18, 1, 0, 0, 0),
}

GOLDEN = {seed: dict(zip(_FATES, counts, strict=True)) for seed, counts in _COUNTS.items()}
