// Verifies trustmint's upload tokens offline, with nothing but Node. The numbers are those of docs/offline.md.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { canonical, check, need } from './caveats.mjs';

const ID =
  /^tm1\.([a-z0-9-]{1,32})\.([0-9]+)\.([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.([\w-]+)$/;
const hmac = (key, data) => createHmac('sha256', key).update(data).digest();

// V2 binary: location, identifier, caveats, signature; each length in its shortest spelling, and nothing left over.
function parse(bytes) {
  let at = 0;
  const byte = (wanted) => need(bytes[at++] === wanted, 'this is no token');
  const field = (kind) => {
    byte(kind);
    const low = bytes[at++];
    const length = low < 128 ? low : low + (bytes[at++] - 1) * 128;
    need(length > (low < 128 ? 0 : 127) && length <= 4096 && at + length <= bytes.length, 'this is no token');
    return bytes.subarray(at, (at += length));
  };
  byte(2);
  new TextDecoder('utf-8', { fatal: true }).decode(field(1)); // the location, which is not signed: never decide by it
  const signed = [field(2)];
  for (byte(0); bytes[at] !== 0; byte(0)) signed.push(field(2));
  byte(0);
  const signature = field(6);
  need(signature.length === 32 && at === bytes.length && signed.length <= 1 + 32, 'this is no token');
  return { signed, signature };
}

// The provenance of a token that allows what the facts say; throws if it does not. `now` in milliseconds.
export function verify(secrets, token, facts, now) {
  // Another ecosystem: put its rule of names here, in `canonical` and in FORMS. With this one, two packages could be one.
  need(secrets.ecosystem === 'pypi' && secrets.codec === 'text', 'this verifier has the names of a Python registry only');
  const text = token.slice(secrets.prefix.length);
  need(token.startsWith(secrets.prefix) && text.length <= 10_923, 'this is no token'); // 1
  const bytes = Buffer.from(text, 'base64url');
  need(bytes.toString('base64url') === text, 'this is no token'); // 2: Node skips what it cannot read
  const { signed, signature } = parse(bytes);
  const [, kid, epoch, head, tail, provenance] = ID.exec(signed[0].toString('latin1')) ?? [];
  const secret = secrets.keys.find((key) => key.kid === kid)?.secret; // 3
  need(secret && epoch === String(secrets.epoch), 'this token is not signed for this registry');
  const root = hmac('macaroons-key-generator', Buffer.from(secret, 'base64url'));
  need(timingSafeEqual(signed.reduce(hmac, root), signature), 'this token is not signed for this registry'); // 4
  const issued = parseInt(head + tail, 16);
  need(issued <= now + 60_000 && now - issued < 3_600_000, 'the token is from the future or over an hour old'); // 5
  const stated = { ...facts, registry: secrets.registry, now, package: canonical(facts.package) };
  const names = signed.slice(1).map((caveat) => check(caveat.toString('latin1'), stated));
  for (const name of ['registry', 'time-before', 'allow']) need(names.includes(name), `the caveat '${name}' is missing`); // 6
  return JSON.parse(Buffer.from(provenance, 'base64url')); // 9
}
