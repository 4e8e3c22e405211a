"""Read audit lines on stdin, print the key requests among them, one short line each."""
import json
import sys

for line in sys.stdin:
    r = json.loads(line)
    if r["ev"] == "key.get":
        peer, acting = r["peer"], r["acting"]
        print(f"{r['res']:5s} no. {r['seq']}  {r['ts'][11:19]}  club {r['club']} "
              f"(rule {r['rule']})  asked by uid {peer['uid']} pid {peer['pid']} "
              f"for uid {acting['uid']}")
