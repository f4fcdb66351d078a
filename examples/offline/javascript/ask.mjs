// One JSON question a line, one JSON answer a line: ask.mjs SECRETS [NOW], a moment in milliseconds instead of the clock.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { verify } from './verify.mjs';

const [secrets, now] = [JSON.parse(readFileSync(process.argv[2])), process.argv[3]];
for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    const { token, ...facts } = JSON.parse(line);
    answer = { allowed: true, publisher: verify(secrets, token, facts, now ? Number(now) : Date.now()) };
  } catch (refusal) { // SECURITY: whatever goes wrong, the answer is no
    answer = { allowed: false, reason: String(refusal.message) };
  }
  console.log(JSON.stringify(answer));
}
