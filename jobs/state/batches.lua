-- Count a result exactly once, uncount it for a retry, or finish the batch when all are counted.
-- Idempotent: a call whose answer was lost may be repeated.
--
-- KEYS[1] HASH    the batch; predictions and cost (micro-dollars) are what it has spent and reserved, cost:<model> what
--                 the results of a model cost, unpriced how many results had predictions of unknown cost
-- KEYS[2] BITMAP  settled prompts
-- KEYS[3] BITMAP  prompts whose result is not succeeded
-- KEYS[4] HASH    the batch's ledger
-- KEYS[5] HASH    prompts that were retried -> how often: their retry count
-- KEYS[6] ZSET    prompts in flight (worker/limits/batch_limiter.lua)
-- KEYS[7] HASH    uploads of local files (jobs/state/uploads.lua)
-- KEYS[8] BITMAP  prompts without a result that are to be canceled by hand
-- KEYS[9] STRING  results in this span of seconds, for the pace
-- KEYS[10] STREAM failures of prompts (jobs/events/log.py)
-- ARGV    'settle', batch's id ('' = any), index, outcome, predictions, cost ('' = unknown), kind of error, model,
--                 retry count of the result ('' = any), last prediction, files that were not saved, the host of one, 1 = an
--                 empty output, its failure as an event ('' = none), most events, their ttl
--                                                                       returns 1 when the count changed, else 0
-- ARGV    'unsettle', batch's id ('' = any), index, outcome, kind       returns 1 when the count changed, else 0
-- ARGV    'finish', '', Unix seconds, ttl                               returns 1 when this call finished it, else 0
-- ARGV    'limit', batch's id, fields and values ('' lifts one)         returns 1 when there is such a batch, else 0
-- ARGV    'cancel_prompts', batch's id, indexes                         returns how many have no result and are marked
-- ARGV    'pause', batch's id, reason                                   returns 1 when this call paused it, else 0
-- ARGV    'resume', batch's id                                          returns 1 when it was paused, else 0
-- ARGV    'cancel', ''                                                  returns 1 when there is such a batch, else 0

local op, id = ARGV[1], redis.call('HGET', KEYS[1], 'id')

if not id or ARGV[2] ~= '' and ARGV[2] ~= id then
  return 0
end

if op == 'limit' then
  for i = 3, #ARGV, 2 do
    if ARGV[i + 1] == '' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
  end
  return 1
end

if op == 'cancel_prompts' then
  local marked = 0
  for i = 3, #ARGV do
    if redis.call('GETBIT', KEYS[2], ARGV[i]) == 0 then
      redis.call('SETBIT', KEYS[8], ARGV[i], 1)
      marked = marked + 1
    end
  end
  return marked
end

if op == 'pause' then
  local canceled, finished_at = unpack(redis.call('HMGET', KEYS[1], 'cancel_requested', 'finished_at'))
  if canceled == '1' or finished_at then
    return 0
  end
  return redis.call('HSETNX', KEYS[1], 'paused', ARGV[3])
end

if op == 'resume' then
  return redis.call('HDEL', KEYS[1], 'paused')
end

if op == 'cancel' then
  redis.call('HDEL', KEYS[1], 'paused')
  redis.call('HSET', KEYS[1], 'cancel_requested', 1)
  return 1
end

if op == 'finish' then
  local sum = 0
  for _, n in ipairs(redis.call('HMGET', KEYS[1], 'succeeded', 'failed', 'canceled')) do
    sum = sum + tonumber(n or 0)
  end
  if sum < tonumber(redis.call('HGET', KEYS[1], 'total')) then
    return 0
  end
  redis.call('HDEL', KEYS[1], 'paused')
  for i = 1, #KEYS - 2 do -- except the pace and the failures, which expire by themselves
    redis.call('EXPIRE', KEYS[i], ARGV[4])
  end
  return redis.call('HSETNX', KEYS[1], 'finished_at', ARGV[3])
end

local index, outcome = ARGV[3], ARGV[4]
local settled = redis.call('GETBIT', KEYS[2], index) == 1
local retry_count = redis.call('HGET', KEYS[5], index) or '0'

if op == 'unsettle' then
  if not settled then
    return 0
  end
  redis.call('SETBIT', KEYS[2], index, 0)
  redis.call('SETBIT', KEYS[3], index, 0)
  redis.call('HINCRBY', KEYS[5], index, 1)
  redis.call('HINCRBY', KEYS[1], outcome, -1)
  if ARGV[5] == 'over_budget' then
    redis.call('HINCRBY', KEYS[1], 'over_budget', -1)
  end
  return 1
end

-- The larger of what the ledger counted for the prompt and what its result says counts. The cost of the result replaces
-- the ledger's if it covers all predictions of the ledger. Otherwise Redis lost something, or the result is late: its
-- worker was overtaken, and later predictions may be paid, too.
local function count_spent(predictions, cost, last)
  local stored = redis.call('HGET', KEYS[4], index)
  local entry = stored and cjson.decode(stored)
    or {nonce = '', prediction_ids = '', unknown_creates = 0, cost = 0, reserved = 0}
  local _, counted = entry.prediction_ids:gsub('%S+', '')
  counted = counted + entry.unknown_creates + (entry.nonce ~= '' and not entry.prediction_id and 1 or 0)
  local more = cost and cost - entry.cost - entry.reserved or 0
  local same = last ~= '' and entry.prediction_ids:match('%S+$') == last
  if predictions > counted then
    redis.call('HINCRBY', KEYS[1], 'predictions', predictions - counted)
  end
  if more > 0 or same and predictions >= counted then
    redis.call('HINCRBY', KEYS[1], 'cost', string.format('%.0f', more))
  end
  if entry.nonce ~= '' then
    redis.call('HINCRBY', KEYS[1], 'reservations', -1)
  end
end

if settled then
  redis.call('HDEL', KEYS[4], index)
  redis.call('ZREM', KEYS[6], index)
  return 0
end
if ARGV[9] ~= '' and ARGV[9] ~= retry_count then
  return 0 -- a late call, for a result that was retried meanwhile
end
count_spent(tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[10])
if ARGV[6] ~= '' and ARGV[8] ~= '' then
  redis.call('HINCRBY', KEYS[1], 'cost:' .. ARGV[8], ARGV[6])
end
if ARGV[6] == '' and tonumber(ARGV[5]) > 0 then
  redis.call('HINCRBY', KEYS[1], 'unpriced', 1)
end
redis.call('HDEL', KEYS[4], index)
redis.call('ZREM', KEYS[6], index)
redis.call('SETBIT', KEYS[2], index, 1)
if redis.call('EXISTS', KEYS[8]) == 1 then
  redis.call('SETBIT', KEYS[8], index, 0)
end
if outcome ~= 'succeeded' then
  redis.call('SETBIT', KEYS[3], index, 1)
end
if ARGV[7] == 'over_budget' then
  redis.call('HINCRBY', KEYS[1], 'over_budget', 1)
elseif ARGV[7] == 'output_lost' then
  redis.call('HINCRBY', KEYS[1], 'outputs_lost', 1)
elseif ARGV[7] == 'aborted' then
  redis.call('HINCRBY', KEYS[1], 'aborted', 1)
  redis.call('HSET', KEYS[1], 'aborted_model', ARGV[8])
end
if ARGV[11] ~= '0' then
  redis.call('HINCRBY', KEYS[1], 'unsaved', ARGV[11])
  redis.call('HSET', KEYS[1], 'unsaved_host', ARGV[12])
end
if ARGV[13] == '1' then
  redis.call('HINCRBY', KEYS[1], 'empty', 1)
end
redis.call('HINCRBY', KEYS[1], outcome, 1)
redis.call('INCR', KEYS[9])
redis.call('EXPIRE', KEYS[9], 180)
if ARGV[14] ~= '' then
  redis.pcall('XADD', KEYS[10], 'MAXLEN', '~', ARGV[15], '*', 'event', ARGV[14]) -- a log never stops a count
  redis.pcall('EXPIRE', KEYS[10], ARGV[16])
end
return 1
