-- End one session.
-- KEYS: 1 record  2 epoch  3 events  [4 subject's index  5 expiry index: given for a bound session]
-- ARGV: 1 expected revision (4 bytes), or '' for any  2 handle  3 digest or ''  4 '1': only if the index has it
--       5 now  6 type of the event, or '' for none  7 by whom  8 why
--       9 declared compartments
-- REPLY: {1, record} ended  {0} there is no such session  {2, record} it has another revision
-- USES: record events index companions

if ARGV[4] == '1' and not redis.call('ZSCORE', KEYS[4], ARGV[2]) then return {0} end
local current = redis.call('GET', KEYS[1])
if not alive(current, redis.call('GET', KEYS[2])) then return {0} end
if ARGV[1] ~= '' and string.sub(current, 5, 8) ~= ARGV[1] then return {2, current} end
if KEYS[4] then leave(KEYS[4], KEYS[5], ARGV[2], ARGV[3]) end
erase(string.sub(KEYS[1], 1, -17), ARGV[2], ARGV[9])
if ARGV[6] ~= '' then emit(KEYS[3], ARGV[6], ARGV[2], ARGV[3], ARGV[5], ARGV[7], ARGV[8]) end
return {1, current}
