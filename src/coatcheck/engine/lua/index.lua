-- Shared by the scripts that keep a subject's index (u) and the expiry index (x) of its partition.
-- u: member handle, score absolute deadline.  x: member handle .. digest, score when to look (ms).
-- A handle is 16 characters, a digest 16. A record's key is stem .. handle.
-- The epoch (g) of a partition ends every session in it that was created then or before (ms).

local TO_SETTLE = 86400000  -- ms for a sweep to come by and tell of a session that has ended, the last one too

local function outlive(key, milliseconds)  -- an index lives as long as its longest entry
  if redis.call('PTTL', key) < milliseconds then redis.call('PEXPIRE', key, milliseconds) end
end

local function enter(u, x, handle, digest, now, ttl, absolute_deadline)
  redis.call('ZADD', u, absolute_deadline, handle)
  redis.call('ZADD', x, now + ttl, handle .. digest)
  outlive(u, absolute_deadline - now)
  outlive(x, absolute_deadline - now + TO_SETTLE)
end

local function leave(u, x, handle, digest)
  redis.call('ZREM', u, handle)
  redis.call('ZREM', x, handle .. digest)
end

-- Drop a session that no operation has ended, and say why it did end: by the epoch, if its record is still there,
-- by its idle timeout or by its absolute deadline.
local function settle(u, x, e, handle, digest, is_there, at)
  local due, deadline = redis.call('ZSCORE', x, handle .. digest), redis.call('ZSCORE', u, handle)
  leave(u, x, handle, digest)
  if is_there then return emit(e, 'revoked', handle, digest, at, '', 'everyone') end
  local idle = due and deadline and tonumber(due) < tonumber(deadline) - 1000
  emit(e, 'expired', handle, digest, at, '', idle and 'idle' or 'absolute')
end

-- Give the handles whose sessions live, oldest absolute deadline first, and the class of each.
local function live_sessions(u, g, stem)
  local live, classes, epoch = {}, {}, redis.call('GET', g)
  for _, handle in ipairs(redis.call('ZRANGE', u, 0, -1)) do
    local record = redis.call('GET', stem .. handle)
    if alive(record, epoch) then
      live[#live + 1] = handle
      classes[handle] = class_of(record)
    end
  end
  return live, classes
end

local function count(handles, classes, class)  -- how many are of a class; '' stands for none
  local found = 0
  for _, handle in ipairs(handles) do
    if class ~= '' and classes[handle] == class then found = found + 1 end
  end
  return found
end

local function ranked(handles, stem, order, now)  -- the oldest ('oldest') or idlest ('idlest': unused longest) first
  local ranks = {}
  for _, handle in ipairs(handles) do
    local record = redis.call('GET', stem .. handle)
    local rank = big_endian(record, 9, 14)
    if order == 'idlest' then
      local seen_by_ttl = now + redis.call('PTTL', stem .. handle) - big_endian(record, 27, 32)
      rank = math.max(big_endian(record, 21, 26), seen_by_ttl)
    end
    ranks[#ranks + 1] = {rank, handle}
  end
  table.sort(ranks, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
  return ranks
end

-- Choose which of the live sessions to end: first those of the class, until `of_class` of them are left, then any,
-- until `allowed` are left (-1: any number).
local function surplus(live, classes, class, of_class, allowed, stem, order, now)
  local chosen, rest = {}, {}
  local beyond = of_class < 0 and 0 or count(live, classes, class) - of_class
  if beyond <= 0 and (allowed < 0 or #live <= allowed) then return chosen end
  for _, entry in ipairs(ranked(live, stem, order, now)) do
    if classes[entry[2]] == class and #chosen < beyond then
      chosen[#chosen + 1] = entry[2]
    else
      rest[#rest + 1] = entry[2]
    end
  end
  for i = 1, allowed < 0 and 0 or #rest - allowed do chosen[#chosen + 1] = rest[i] end
  return chosen
end

local function append(reply, handles)  -- `unpack` fails beyond some 8,000
  for _, handle in ipairs(handles) do reply[#reply + 1] = handle end
  return reply
end

