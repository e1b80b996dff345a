-- The pay-once ledger: every change is a compare-and-set on the nonce of the prompt's open attempt.
-- An entry is JSON {attempt, nonce, at, prediction_id?, prediction_ids, unknown_creates, ended?}; its nonce is "" when
-- the attempt is over and another may begin; `ended` is the nonce before that. Idempotent: a call whose answer was lost may be made again.
--
-- KEYS[1] HASH    the ledger: index -> entry
-- KEYS[2] BITMAP  settled prompts
-- KEYS[3] HASH    the batch
-- KEYS[4] STRING  the claim of the prediction ('record' only)
-- ARGV    'intend', batch's id, index, expected nonce, new nonce, 'attempt' | 'replace'
-- ARGV    'record', batch's id, index, nonce, prediction id, claimant, claim's seconds
-- ARGV    'withdraw' | 'close', batch's id, index, nonce
-- returns {verdict, entry or ''}; verdict = ok | gone | settled | conflict | claimed

local op, index = ARGV[1], ARGV[3]

if redis.call('HGET', KEYS[3], 'id') ~= ARGV[2] then
  return {'gone', ''}
end
if redis.call('GETBIT', KEYS[2], index) == 1 then
  return {'settled', ''}
end

local stored = redis.call('HGET', KEYS[1], index)
local entry = stored and cjson.decode(stored) or {attempt = 0, nonce = '', prediction_ids = '', unknown_creates = 0}

local function keep()
  stored = cjson.encode(entry)
  redis.call('HSET', KEYS[1], index, stored)
  return {'ok', stored}
end

local function intend(expected, nonce, mode)
  if entry.nonce == nonce then
    return {'ok', stored}
  end
  if entry.nonce ~= expected then
    return {'conflict', stored or ''}
  end
  if mode == 'replace' then
    entry.unknown_creates = entry.unknown_creates + 1
    redis.call('HINCRBY', KEYS[3], 'unknown_creates', 1)
  else
    entry.attempt = entry.attempt + 1
  end
  local now = redis.call('TIME')
  entry.nonce, entry.prediction_id, entry.at = nonce, nil, tonumber(now[1]) + tonumber(now[2]) / 1000000
  return keep()
end

local function record(nonce, prediction_id, claimant, ttl)
  if entry.nonce ~= nonce then
    return {'conflict', stored or ''}
  end
  if entry.prediction_id == prediction_id then
    return {'ok', stored}
  end
  if not redis.call('SET', KEYS[4], claimant, 'NX', 'EX', ttl) and redis.call('GET', KEYS[4]) ~= claimant then
    return {'claimed', stored}
  end
  entry.prediction_id = prediction_id
  entry.prediction_ids = entry.prediction_ids == '' and prediction_id or entry.prediction_ids .. ' ' .. prediction_id
  return keep()
end

local function withdraw(nonce)
  if entry.ended == nonce or not stored then
    return {'ok', stored or ''}
  end
  if entry.nonce ~= nonce then
    return {'conflict', stored}
  end
  entry.nonce, entry.ended, entry.prediction_id, entry.attempt = '', nonce, nil, entry.attempt - 1
  if entry.attempt == 0 and entry.prediction_ids == '' and entry.unknown_creates == 0 then
    redis.call('HDEL', KEYS[1], index)
    return {'ok', ''}
  end
  return keep()
end

local function close(nonce)
  if nonce ~= '' and entry.ended == nonce and entry.nonce == '' then
    return {'ok', stored}
  end
  if entry.nonce ~= nonce then
    return {'conflict', stored or ''}
  end
  if nonce ~= '' then
    entry.nonce, entry.ended, entry.prediction_id = '', nonce, nil
  end
  return keep()
end

if op == 'intend' then
  return intend(ARGV[4], ARGV[5], ARGV[6])
elseif op == 'record' then
  return record(ARGV[4], ARGV[5], ARGV[6], ARGV[7])
elseif op == 'withdraw' then
  return withdraw(ARGV[4])
end
return close(ARGV[4])
