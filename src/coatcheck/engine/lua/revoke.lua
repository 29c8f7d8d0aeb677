-- End one session.
-- KEYS: 1 record  [2 subject's index  3 expiry index: given for a bound session]
-- ARGV: 1 expected revision (4 bytes), or '' for any  [2 handle  3 digest  4 '1': only if the subject's index has it]
-- REPLY: {1, record} ended  {0} there is no such session  {2, record} it has another revision
-- USES: index

if KEYS[2] and ARGV[4] == '1' and not redis.call('ZSCORE', KEYS[2], ARGV[2]) then return {0} end
local current = redis.call('GET', KEYS[1])
if current and ARGV[1] ~= '' and string.sub(current, 5, 8) ~= ARGV[1] then return {2, current} end
if KEYS[2] then leave(KEYS[2], KEYS[3], ARGV[2], ARGV[3]) end
if not current then return {0} end
redis.call('DEL', KEYS[1])
return {1, current}
