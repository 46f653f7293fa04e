-- Enters a deed in an account's history, and tells when it was. A deed that is to stand there once within a time finds
-- the mark of the one before, and is not entered again.
local history, mark = KEYS[1], KEYS[2]
local entry, within_ms = ARGV[1], tonumber(ARGV[2])
if within_ms > 0 and not redis.call('SET', mark, 1, 'NX', 'PX', within_ms) then return '' end
return redis.call('XADD', history, '*', 'entry', entry)
