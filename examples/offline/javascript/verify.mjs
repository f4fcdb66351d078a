// Verifies trustmint's upload tokens offline, with nothing but Node. The numbers are those of docs/offline.md.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { isIPv4 } from 'node:net';

const ID = /^tm1\.([a-z0-9-]{1,32})\.([0-9]+)\.([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.([\w-]+)$/;
// A caveat's name with one argument, in its one spelling: what is not here refuses. `uses` is not: nobody can count offline.
// The names in `allow` are a Python registry's.
const FORM = new RegExp('^((registry|version) ([!-$&-+\\--~]|%([01][0-9A-F]|2[05C]|7F|[89A-F][0-9A-F]))+|sha256 [0-9a-f]{64}|' +
  'max-size (0|[1-9][0-9]{0,19})|time-before (?!9999-12-3)[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z|' +
  'ip [0-9a-f.:]+/(0|[1-9][0-9]{0,2})|allow [a-z]([a-z-]{0,30}[a-z])?:(?=.{1,214}$)[a-z0-9]+(-[a-z0-9]+)*(-\\*)?)$');
const NAME = /^(?=.{1,214}$)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/;
const hmac = (key, data) => createHmac('sha256', key).update(data).digest();
const need = (holds, reason) => { if (!holds) throw new Error(reason); };

// The fields of V2 binary after its first byte: a kind, the length in its shortest spelling, the data; a bare 0 ends a section.
function* parse(bytes) {
  for (let at = 1; at < bytes.length; ) {
    const kind = bytes[at++], low = kind && bytes[at++], length = low < 128 ? low : low + (bytes[at++] - 1) * 128;
    need(kind === 0 || (length > (low < 128 ? 0 : 127) && length <= 4096 && at + length <= bytes.length), 'this is no token');
    yield { kind, data: bytes.subarray(at, (at += length)) };
  }
}

// An address as its family and binary digits; IPv4 inside IPv6 is the IPv4 that it is.
function digits(ip) {
  const short = new URL(`http://[${isIPv4(ip) ? '::ffff:' : ''}${ip}]`).hostname.slice(1, -1);
  const words = short.replace('::', ':'.repeat(10 - short.split(':').length)).split(':'); // all eight
  const bits = words.map((word) => parseInt(word || '0', 16).toString(2).padStart(16, '0')).join('');
  return bits.startsWith('0'.repeat(80) + '1'.repeat(16)) ? '4' + bits.slice(96) : '6' + bits;
}

// An argument's place in the order of its caveat's list, and whether the facts meet it. What is not stated does not.
const READ = {
  'time-before': (arg, { now }) => [need(new Date(arg).toISOString() === arg.replace('Z', '.000Z')), now < Date.parse(arg)],
  'max-size': (arg, { size }) => [0, Number.isSafeInteger(size) && size <= BigInt(arg) && BigInt(arg) < 2n ** 64n],
  allow: (arg, { action, package: name }) => [arg.replace(':', arg.endsWith('*') ? '\x01' : '\0'), // by action, names before prefixes
    new RegExp(`^${arg.replace('*', '[^:]+')}$`).test(`${action === 'read' ? arg.split(':')[0] : action}:${name}`)],
  ip(arg, facts) {
    const [ip, length] = arg.split('/'), bits = digits(ip), prefix = bits.slice(0, 1 + +length);
    need(isIPv4(ip) || (bits[0] === '6' && new URL(`http://[${ip}]`).hostname === `[${ip}]`), 'a network is misspelt');
    need(+length < bits.length && bits === prefix.padEnd(bits.length, '0'), 'a network has bits of a host');
    return [bits + length.padStart(3, '0'), digits(facts.client_ip).startsWith(prefix)];
  },
  text: (text, fact) => [Buffer.from(text).toString('latin1'), text === fact], // in the order of its bytes, not of its UTF-16
};

// The provenance of a token that allows what the facts say; throws if it does not. `now` in milliseconds.
export function verify(secrets, token, facts, now) {
  // Another ecosystem: put its rule of names here, in NAME and in FORM. With this one, two packages could be one.
  need(secrets.ecosystem === 'pypi' && secrets.codec === 'text', 'this verifier has the names of a Python registry only');
  const text = token.slice(secrets.prefix.length), bytes = Buffer.from(text, 'base64url'); // 1: Node skips what it cannot read
  need(token === secrets.prefix + bytes.toString('base64url') && text.length <= 10_923, 'this is no token');
  const fields = [...parse(bytes)], signed = fields.filter(({ kind }) => kind === 2).map(({ data }) => data); // 2
  need(bytes[0] === 2 && /^1 2 0 (2 0 ){0,32}0 6$/.test(fields.map(({ kind }) => kind).join(' ')), 'this is no token');
  new TextDecoder('utf-8', { fatal: true }).decode(fields[0].data); // the location, which is not signed: never decide by it
  const [, kid, epoch, head, tail, provenance] = ID.exec(signed[0].toString('latin1')) ?? [], age = now - parseInt(head + tail, 16);
  const key = secrets.keys.find((key) => key.kid === kid && String(secrets.epoch) === epoch); // 3
  const chain = key && [Buffer.from(key.secret, 'base64url'), ...signed].reduce(hmac, 'macaroons-key-generator'); // 4
  need(key && timingSafeEqual(chain, fields.at(-1).data), 'this token is not signed for this registry');
  need(age >= -60_000 && age < 3_600_000, 'the token is from the future or over an hour old'); // 5
  // The one spelling of a package's name is the registry's own business. This is Python's (PEP 503).
  need(NAME.test(facts.package), 'this is no package name');
  const stated = { ...facts, package: facts.package.replace(/[-_.]+/g, '-').toLowerCase(), registry: secrets.registry, now };
  const names = signed.slice(1).map((caveat) => { // 7, 8
    const [, name, list] = /^([a-z0-9-]+) (.+)$/.exec(caveat.toString('latin1')) ?? [], args = list?.split(',') ?? [];
    need(args.length <= 64 && args.every((arg) => FORM.test(`${name} ${arg}`)), `the caveat '${name}' cannot be read`);
    const read = args.map((arg) => (READ[name] ? READ[name](arg, stated) : READ.text(decodeURIComponent(arg), stated[name])));
    need(read.every(([place], i) => !i || read[i - 1][0] < place) && read.some(([, met]) => met), `the caveat '${name}' does not hold`);
    return name;
  });
  need(['registry', 'time-before', 'allow'].every((name) => names.includes(name)), 'a caveat is missing that every token has'); // 6
  return JSON.parse(Buffer.from(provenance, 'base64url')); // 9
}
