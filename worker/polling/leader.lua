-- The polling leader of an API host: which worker leads, and the messages between it and the others.
--
-- KEYS[1] STRING  the role: the worker that leads
-- KEYS[2] LIST    inbox of the leader: requests of the others
-- KEYS[3] LIST    inbox of this worker: what has ended
-- ARGV    this worker, ms that the role is kept, ms that messages are kept, 1 = it is willing to lead, requests
--         for the leader...
-- returns {the leader or '', {messages...}}

local who, kept, messages_kept, willing = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1'
local leader = redis.call('GET', KEYS[1])

if leader == who and not willing then
  redis.call('DEL', KEYS[1])
  leader = false
elseif willing and (not leader or leader == who and redis.call('PTTL', KEYS[1]) < kept * 2 / 3) then
  redis.call('SET', KEYS[1], who, 'PX', kept)
  leader = who
end
if leader and leader ~= who and #ARGV > 4 then
  for i = 5, #ARGV do
    redis.call('RPUSH', KEYS[2], ARGV[i])
  end
  redis.call('PEXPIRE', KEYS[2], messages_kept)
end
local inbox = leader == who and KEYS[2] or KEYS[3]
local messages = redis.call('LRANGE', inbox, 0, -1)
if #messages > 0 then
  redis.call('DEL', inbox)
end
return { leader or '', messages }
