-- Shared by the scripts that write lifecycle events: to the partition's stream (e), for consumers that must miss
-- none, and on a channel of the same name, for the processes that listen now.
-- An event: type, handle, the subject's digest or '', when (ms), by whom or '', why or ''.

local KEPT, LIFE = 10000, 604800000  -- entries of a partition (about); ms after the last one

local function emit(e, type, handle, digest, at, by, why)
  redis.call('XADD', e, 'MAXLEN', '~', KEPT, '*', 't', type, 'h', handle, 's', digest, 'at', at, 'by', by, 'why', why)
  redis.call('PEXPIRE', e, LIFE)
  redis.call('PUBLISH', e, table.concat({type, handle, digest, at, by, why}, '\n'))
end

-- Say whether an event is among the latest ones, for scripts that leave no other trace by which they would know that
-- they are sent again.
local function is_told(e, type, handle, at)
  for _, entry in ipairs(redis.call('XREVRANGE', e, '+', '-', 'COUNT', 100)) do
    local fields = entry[2]
    if fields[2] == type and fields[4] == handle and fields[8] == at then return true end
  end
  return false
end

