-- Indexes of metadata: the jobs that have a label, so that finding them reads no others.
--
-- Uses: keys
--
-- An index is the digest of a label, its name and its value. A submission names those of the labels that the job's task
-- declares as indexed, and the job keeps them in its field `indexes`: so whatever deletes it needs no declaration, and a
-- declaration that changes leaves no job behind. Every member has the score 0: ids sort by the time in them.

local indexes = {}

function indexes.enter(w, p, id, names)
  for name in string.gmatch(names, '%S+') do w:add('ZADD', key.index(p, name), '0', id) end
end

-- Takes a job that is deleted out of its indexes, if it is in any.
function indexes.leave(w, p, id, names)
  for name in string.gmatch(names or '', '%S+') do w:add('ZREM', key.index(p, name), id) end
end

-- Lists a job by its new indexes instead of those it had.
function indexes.change(w, p, id, before, after)
  local function only_in(one, other)
    local names = {}
    for name in string.gmatch(one, '%S+') do
      if not string.find(' ' .. other .. ' ', ' ' .. name .. ' ', 1, true) then names[#names + 1] = name end
    end
    return table.concat(names, ' ')
  end
  before, after = before or '', after or ''
  indexes.leave(w, p, id, only_in(before, after))
  indexes.enter(w, p, id, only_in(after, before))
end
