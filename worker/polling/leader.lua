-- One worker of an account sweeps the list for all: who does, and the mail between it and the others.
--
-- KEYS[1] STRING  the role: the worker that sweeps
-- KEYS[2] LIST    mail for whoever sweeps: what the others wait for
-- KEYS[3] LIST    mail for this worker: what has ended
-- ARGV    this worker, ms that the role is kept, ms that mail is kept, 1 = it would sweep, mail for the sweeper...
-- returns {the worker that sweeps or '', {mail...}}

local who, kept, mail_kept, willing = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local holder = redis.call('GET', KEYS[1])

if holder == who and not willing then
  redis.call('DEL', KEYS[1])
  holder = false
elseif willing and (not holder or holder == who and redis.call('PTTL', KEYS[1]) < kept * 2 / 3) then
  redis.call('SET', KEYS[1], who, 'PX', kept)
  holder = who
end
if holder and holder ~= who and #ARGV > 4 then
  for i = 5, #ARGV do
    redis.call('RPUSH', KEYS[2], ARGV[i])
  end
  redis.call('PEXPIRE', KEYS[2], mail_kept)
end
local box = holder == who and KEYS[2] or KEYS[3]
local mail = redis.call('LRANGE', box, 0, -1)
if #mail > 0 then
  redis.call('DEL', box)
end
return { holder or '', mail }
