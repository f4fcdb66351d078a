"""One JSON question a line, one JSON answer a line: ask.py SECRETS [NOW], a moment in milliseconds instead of the clock."""
import json, sys, time
from verify import verify

with open(sys.argv[1]) as file:
    secrets = json.load(file)
for line in sys.stdin:
    question, now = json.loads(line), int(sys.argv[2]) if sys.argv[2:] else time.time_ns() // 1_000_000
    try:
        answer = {"allowed": True, "publisher": verify(secrets, question.pop("token"), question, now)}
    except Exception as refusal:  # SECURITY: whatever goes wrong, the answer is no
        answer = {"allowed": False, "reason": f"{type(refusal).__name__}: {refusal}"}
    print(json.dumps(answer), flush=True)
