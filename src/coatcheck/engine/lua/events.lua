-- Shared by the scripts that write lifecycle events: to the partition's stream (e), for consumers that must miss
-- none, and on a channel of the same name, for the processes that listen now.
-- An event: type, handle, the subject's digest or '', when (ms), by whom or '', why or ''.

local KEPT, LIFE = 10000, 604800000  -- entries of a partition (about); ms after the last one

local function emit(e, type, handle, digest, at, by, why)
  redis.call('XADD', e, 'MAXLEN', '~', KEPT, '*', 't', type, 'h', handle, 's', digest, 'at', at, 'by', by, 'why', why)
  redis.call('PEXPIRE', e, LIFE)
  redis.call('PUBLISH', e, table.concat({type, handle, digest, at, by, why}, '\n'))
end

