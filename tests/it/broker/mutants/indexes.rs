//! Indexes of metadata.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    (
        "a job with indexed labels is in no index",
        "  if job.indexes then indexes.enter(w, p, id, job.indexes) end\n",
        "",
    ),
    ("a job does not name its indexes", "  add('indexes', extras.indexes)\n", ""),
    (
        "the feature of indexes is not listed",
        "  if extras.indexes then use_feature(w, p, 'indexes') end\n",
        "",
    ),
    (
        "a job is in one of its indexes",
        "key.index(p, name), '0', id) end",
        "key.index(p, name), '0', id) break end",
    ),
    (
        "a job leaves one of its indexes",
        "key.index(p, name), id) end",
        "key.index(p, name), id) break end",
    ),
    (
        "an index is not sorted by id",
        "key.index(p, name), '0', id) end",
        "key.index(p, name), string.byte(id, -1), id) end",
    ),
    ("a deleted job stays in its indexes", "  indexes.leave(w, p, id, job.indexes)\n", ""),
    ("an expired job stays in its indexes", "      indexes.leave(w, p, ids[at], job[2])\n", ""),
    (
        "an audit overlooks a job that is missing from an index",
        "if score_in(p, name, id) ~= 0 then",
        "if false then",
    ),
    (
        "an audit overlooks a job in an index that it does not name",
        "and score_in(p, met, id) then",
        "and false then",
    ),
];
