-- The lease of a shard or of a role. KEYS[1] alone decides who owns it; arq's in-progress key only keeps other workers
-- from asking.
--
-- KEYS[1] STRING  the lease: its owner
-- KEYS[2] STRING  arq's in-progress key of the job
-- KEYS[3] ZSET    arq's queue
-- ARGV    'acquire' | 'wait' | 'try_acquire' | 'renew' | 'release' | 'reopen', owner, ttl in ms, job id ('' for a role)
-- returns mine | taken | gone ('gone': the job has left the queue)

local op, owner, ttl, job = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local holder = redis.call('GET', KEYS[1])

if op == 'release' or op == 'reopen' then
  if holder == owner then
    redis.call('DEL', KEYS[1])
    if op == 'reopen' then -- arq has not started this job, and may now
      redis.call('DEL', KEYS[2])
    end
  end
  return 'gone'
end
local waiting = op == 'acquire' or op == 'wait' or op == 'try_acquire'
if waiting and job ~= '' and not redis.call('ZSCORE', KEYS[3], job) then
  return 'gone'
end
local taken = op == 'wait' or holder and holder ~= owner or op == 'renew' and not holder
if op == 'try_acquire' and (taken or not holder and redis.call('EXISTS', KEYS[2]) == 1) then
  return 'taken' -- another worker runs the job, or is about to
end
if job ~= '' and (waiting or not taken and redis.call('ZSCORE', KEYS[3], job)) then
  redis.call('SET', KEYS[2], '1', 'PX', ttl) -- also while it waits, so that no other worker starts the job
end
if taken then
  return 'taken'
end
redis.call('SET', KEYS[1], owner, 'PX', ttl)
return 'mine'
