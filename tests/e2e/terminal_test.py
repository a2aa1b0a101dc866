#!/usr/bin/env python3
"""`fathom run nano` on a terminal: what a newcomer sees and types."""
import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time

from support import BINARY, ENVIRONMENT, FathomTest, main

PROMPT = b">>> "
DIM, PLAIN = b"\x1b[2m", b"\x1b[0m"
UP = b"\x1b[A"


class Terminal:
    """The program on a pseudo-terminal of 24 lines and 80 columns."""

    def __init__(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(BINARY, [BINARY, *map(str, args)], ENVIRONMENT)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.status = None

    def read_until(self, what, seconds=30):
        """What the program writes, up to and with `what` (None: its end)."""
        out, end = b"", time.monotonic() + seconds
        while what is None or what not in out:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise AssertionError(f"waited {seconds} s for {what!r}, saw {out!r}")
            try:
                piece = os.read(self.fd, 4096)
            except OSError:  # Linux: the other side is closed
                piece = b""
            if not piece and what is not None:
                raise AssertionError(f"the program ended before {what!r}, saw {out!r}")
            if not piece:
                break
            out += piece
        return out

    def wait_until_editing(self):
        """Until the line editor has the terminal: what comes earlier is echoed by the system."""
        end = time.monotonic() + 10
        while termios.tcgetattr(self.fd)[3] & termios.ICANON:
            if time.monotonic() > end:
                raise AssertionError("the line editor did not start")
            time.sleep(0.005)

    def type(self, keys):
        self.wait_until_editing()
        os.write(self.fd, keys if isinstance(keys, bytes) else keys.encode())

    def ask(self, line, end=PROMPT):
        """Types a line; returns what appears up to the next prompt."""
        self.type(line)
        self.type(b"\r")
        return self.read_until(end)

    def end(self):
        """The exit code of the program, which must be about to end."""
        self.read_until(None)
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return self.status

    def close(self):
        if self.status is None:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
            os.close(self.fd)


def plain(screen):
    """The text without colours and carriage returns."""
    return re.sub(r"\x1b\[\d*[A-Za-z]", "", screen.decode()).replace("\r", "")


class TerminalTest(FathomTest):
    def start(self, *args):
        terminal = Terminal("run", "nano", *args)
        self.addCleanup(terminal.close)
        welcome = terminal.read_until(PROMPT)
        self.assertIn(b"/help", welcome)
        self.assertIn(b"Ctrl-D", welcome)
        return terminal

    def test_questions_with_dimmed_reasoning(self):
        t = self.start()
        screen = t.ask("What is 4837 + 926?")
        self.assertIn(b"What is 4837 + 926?", screen)  # echoed
        reasoning, rest = screen.split(DIM, 1)[1].split(PLAIN, 1)
        self.assertIn(b"7+6+0=13", reasoning)
        self.assertIn("\n\n5763\n", plain(rest))
        self.assertRegex(plain(rest), r"\n\d+ tokens, \d+ tokens/s, first token after \d+\.\d\d s\n>>> \Z")
        self.assertIn("\n\n861\n", plain(t.ask("858加3是多少？")))
        t.type(b"\x04")
        self.assertEqual(t.end(), 0)

    def test_utf8_is_echoed_and_edited(self):
        t = self.start()
        t.type("858加3是多多")
        t.type(b"\x7f")  # backspace takes a whole character
        screen = t.ask("少？")
        self.assertIn("858加3是多".encode(), screen)
        self.assertIn("\n\n861\n", plain(screen))

    def test_commands(self):
        t = self.start()
        help_text = plain(t.ask("/help"))
        for word in ["/reset", "/save FILE", "/exit", "Ctrl-C", "Ctrl-D"]:
            self.assertIn(word, help_text)
        t.ask("What is 2 + 3?")
        file = self.tmp / "talk 世界.json"
        self.assertIn(f"Saved to {file}.", plain(t.ask(f"/save {file}")))
        user, assistant = json.loads(file.read_text())
        self.assertEqual(user, {"role": "user", "content": "What is 2 + 3?"})
        self.assertEqual((assistant["role"], assistant["content"]), ("assistant", "5"))
        self.assertIn("2+3", assistant["reasoning_content"])
        self.assertIn("empty again", plain(t.ask("/reset")))
        t.ask(f"/save {file}")
        self.assertEqual(json.loads(file.read_text()), [])
        self.assertIn("needs a file name", plain(t.ask("/save")))
        self.assertIn("/no/such/dir", plain(t.ask("/save /no/such/dir/file")))
        self.assertIn("/nonsense is no command", plain(t.ask("/nonsense")))
        self.assertEqual(plain(t.ask("   ")).count(">>>"), 1)
        t.type("/exit\r")
        self.assertEqual(t.end(), 0)

    def test_lines_joined_by_backslash(self):
        t = self.start()
        t.ask("What is \\", end=b"... ")
        self.assertIn("\n\n5\n", plain(t.ask("2 + 3?")))

    def test_arrow_up_recalls_history(self):
        t = self.start()
        t.ask("What is 2 + 3?")
        t.ask("/help")
        t.type(UP)
        t.read_until(b"/help")
        t.type(UP)
        t.read_until(b"2 + 3?")
        t.type(b"\r")
        # Not the prompt: redrawing the line may have written that again.
        self.assertIn("\n\n5\n", plain(t.read_until(b" tokens/s")))

    def test_control_characters_of_the_model_do_not_reach_the_terminal(self):
        # Nearly uniform draws: single bytes of every kind, control characters among them.
        t = self.start("--temperature", 100, "--top-p", 1, "--seed", 6, "--max-tokens", 1000)
        screen = t.ask("Hello", end=b" tokens/s")
        answer = screen.split(DIM, 1)[1].rsplit(DIM, 1)[0]
        self.assertIn("\N{REPLACEMENT CHARACTER}".encode(), answer)
        for c in answer.replace(PLAIN, b"").replace(b"\r\n", b"").decode():
            self.assertFalse(ord(c) < 32 and c != "\t" or 127 <= ord(c) < 160, repr(c))

    def test_ctrl_c_stops_an_answer_and_the_session_goes_on(self):
        # Nearly uniform draws: an answer of thousands of tokens, by this seed without an end token.
        t = self.start("--temperature", 100, "--top-p", 1, "--seed", 6, "--ctx", 100_000)
        t.type("Hello\r")
        t.read_until(DIM)
        time.sleep(0.1)
        os.write(t.fd, b"\x03")
        start = time.monotonic()
        screen = t.read_until(PROMPT)
        self.assertLess(time.monotonic() - start, 5)
        self.assertIn(b"[stopped]", screen)
        self.assertIn(b"/reset", t.ask("/help"))
        t.type(b"\x04")
        self.assertEqual(t.end(), 0)

    def test_ctrl_c_at_the_prompt_drops_the_line(self):
        t = self.start()
        t.wait_until_editing()
        self.assertEqual(termios.tcgetattr(t.fd)[6][termios.VINTR], b"\0")  # a key, not a signal
        t.type("What is 1 + 1? no, ")
        t.type(b"\x03")
        t.read_until(b"^C\r\n" + PROMPT)
        t.ask("What is 3 + \\", end=b"... ")
        t.type(b"4\x03")
        t.read_until(b"^C\r\n" + PROMPT)
        self.assertIn("\n\n5\n", plain(t.ask("What is 2 + 3?")))
        file = self.tmp / "talk.json"
        t.ask(f"/save {file}")
        self.assertEqual(json.loads(file.read_text())[0]["content"], "What is 2 + 3?")
        t.type(b"\x04")
        self.assertEqual(t.end(), 0)


if __name__ == "__main__":
    try:
        os.close(os.openpty()[0])
    except OSError as error:  # a container without /dev/pts
        print(f"skipped: no pseudo-terminal to be had here ({error})")
        sys.exit(77)
    main()
