// Whether a request meets a caveat. What is in doubt throws, and what throws refuses.
import { isIPv4 } from 'node:net';

export const need = (holds, reason) => {
  if (!holds) throw new Error(reason);
};

const TEXT = /^([!-$&-+\--~]|%([01][0-9A-F]|2[05C]|7F|[89A-F][0-9A-F]))+$/; // each byte in its one spelling
const FORMS = new Map([
  ['registry', TEXT],
  ['version', TEXT],
  ['sha256', /^[0-9a-f]{64}$/],
  ['max-size', /^(0|[1-9][0-9]{0,19})$/],
  ['time-before', /^(?!9999-12-3)[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$/],
  ['ip', /^[0-9a-f.:]+\/(0|[1-9][0-9]{0,2})$/],
  ['allow', /^[a-z]([a-z-]{0,30}[a-z])?:(?=.{1,214}$)[a-z0-9]+(-[a-z0-9]+)*(-\*)?$/], // a Python registry's names
]); // `uses` is not here: nobody can count offline

// The one spelling of a package's name: the registry's own business. This is Python's (PEP 503).
export function canonical(name) {
  need(/^(?=.{1,214}$)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(name), 'this is no package name');
  return name.replace(/[-_.]+/g, '-').toLowerCase();
}

// An address as its family and binary digits; IPv4 inside IPv6 is the IPv4 that it is.
function digits(ip) {
  if (isIPv4(ip)) return '4' + ip.split('.').map((byte) => (+byte).toString(2).padStart(8, '0')).join('');
  const [head, tail] = new URL(`http://[${ip}]`).hostname.slice(1, -1).split('::').map((half) => half.split(':'));
  const words = tail ? [...head, ...Array(8 - head.length - tail.length).fill('0'), ...tail] : head;
  const bits = words.map((word) => parseInt(word || '0', 16).toString(2).padStart(16, '0')).join('');
  return bits.startsWith('0'.repeat(80) + '1'.repeat(16)) ? '4' + bits.slice(96) : '6' + bits;
}

function network(arg) {
  const [ip, length] = arg.split('/');
  const bits = digits(ip);
  need(isIPv4(ip) || (bits[0] === '6' && new URL(`http://[${ip}]`).hostname === `[${ip}]`), 'a network is misspelt');
  need(+length < bits.length && !bits.slice(1 + +length).includes('1'), 'a network has bits of a host');
  return [bits + length.padStart(3, '0'), bits.slice(0, 1 + +length)];
}

// An argument's place in the order of its caveat's list, and whether the facts meet it. What is not stated does not.
const READ = {
  'time-before': (arg, { now }) => [need(new Date(arg).toISOString() === arg.replace('Z', '.000Z')), now < Date.parse(arg)],
  'max-size': (arg, { size }) => [0, Number.isSafeInteger(size) && size <= BigInt(arg) && BigInt(arg) < 2n ** 64n],
  sha256: (arg, { sha256 }) => [arg, arg === sha256],
  ip: (arg, { client_ip }) => { const [place, prefix] = network(arg); return [place, digits(client_ip).startsWith(prefix)]; },
  allow(arg, { action, package: name }) {
    const [, may, prefix, open] = /^(.*):(.*?)(\*?)$/.exec(arg);
    const reached = open ? name.startsWith(prefix) && name !== prefix : name === prefix;
    return [`${may}\0${open ? 1 : 0}${prefix}`, reached && (action === may || action === 'read')];
  },
  text(arg, fact) {
    const text = decodeURIComponent(arg); // its place is that of its bytes, not of its UTF-16
    return [Buffer.from(text).toString('latin1'), text === fact];
  },
};

// 7, 8: a caveat is known, in its one spelling, and met. Its name.
export function check(caveat, facts) {
  const [, name, list] = /^([a-z0-9-]+) (.+)$/.exec(caveat) ?? [];
  const args = list?.split(',') ?? [];
  need(FORMS.has(name) && args.length <= 64 && args.every((arg) => FORMS.get(name).test(arg)), `the caveat '${name}' cannot be read`);
  const read = args.map((arg) => (READ[name] ? READ[name](arg, facts) : READ.text(arg, facts[name])));
  need(read.every(([place], i) => i === 0 || read[i - 1][0] < place), `the caveat '${name}' cannot be read`);
  need(read.some(([, met]) => met), `the caveat '${name}' does not hold`);
  return name;
}
