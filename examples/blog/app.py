"""A blog without a framework: python3 app.py serve PORT | work | migrate | check URL."""

import os
import signal
import sqlite3
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATABASE = os.environ.get("DATABASE", "blog.sqlite")


def database():
    return sqlite3.connect(DATABASE, timeout=10)


def migrate():
    print("migrating", DATABASE, flush=True)
    with database() as db:
        db.execute("CREATE TABLE IF NOT EXISTS posts (id INTEGER PRIMARY KEY, title TEXT, seen INTEGER DEFAULT 0)")
        db.execute("INSERT OR IGNORE INTO posts (id, title) VALUES (1, 'Hello')")
    print("posts are there", flush=True)


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"<h1>The blog</h1>\n"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(port):
    print("serving on port", port, flush=True)
    ThreadingHTTPServer(("", int(port)), Page).serve_forever()


def work():
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    print("the worker is up", flush=True)
    while not ended:
        time.sleep(0.1)
    print("the worker has finished", flush=True)


def check(url):
    with urllib.request.urlopen(url, timeout=2) as answer:
        sys.exit(answer.status != 200)


if __name__ == "__main__":
    {"serve": serve, "work": work, "migrate": migrate, "check": check}[sys.argv[1]](*sys.argv[2:])
