-- Add shards to the queue unless they are in it, at virtual times that share the workers between batches:
-- max(score of the queue's head, score of the batch's last shard in the queue) + prompts / priority.
-- Idempotent: a call whose answer was lost may be repeated.
--
-- KEYS[1] ZSET    the queue
-- KEYS[2] HASH    the batch
-- KEYS[3..] the other keys that expire with a finished batch (kept_with_batch in keys.py); persisted while it runs
-- arq:job:<id> STRING payload, for each shard
-- ARGV    batch id, total, priority, prefix of job keys, ttl of payloads (ms), then for each shard: job id, prompts, payload
-- Returns shards and prompts that were added; shards is -1 when the batch no longer exists.

local batch_id, total, priority = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local prefix, ttl = ARGV[4], ARGV[5]

local now = redis.call('HMGET', KEYS[2], 'id', 'total', 'succeeded', 'failed', 'canceled', 'last_shard')
if now[1] ~= batch_id then
  return {-1, 0}
end

if total > tonumber(now[2]) then
  redis.call('HSET', KEYS[2], 'total', ARGV[2])
end
if tonumber(now[3]) + tonumber(now[4]) + tonumber(now[5]) < total then
  redis.call('HDEL', KEYS[2], 'finished_at')
  for i = 2, #KEYS do
    redis.call('PERSIST', KEYS[i])
  end
end

local head = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local last = now[6] and redis.call('ZSCORE', KEYS[1], now[6])
local score = math.max(tonumber(head[2] or 0), tonumber(last or 0))
local shards, prompts, last_shard = 0, 0, nil

for i = 6, #ARGV, 3 do
  local job, count = ARGV[i], tonumber(ARGV[i + 1])
  if redis.call('ZSCORE', KEYS[1], job) then
    redis.call('SET', prefix .. job, ARGV[i + 2], 'NX', 'PX', ttl)
  else
    score = score + count / priority
    redis.call('SET', prefix .. job, ARGV[i + 2], 'PX', ttl)
    redis.call('ZADD', KEYS[1], score, job)
    shards, prompts, last_shard = shards + 1, prompts + count, job
  end
end

if last_shard then
  redis.call('HSET', KEYS[2], 'last_shard', last_shard)
end
return {shards, prompts}
