#!/usr/bin/env python3
"""Prints each test that a ctest JUnit report lists as skipped, with the reason the test printed."""
import sys
import xml.etree.ElementTree as ElementTree


def reason_of(case):
    lines = [line.strip() for line in (case.findtext("system-out") or "").splitlines()]
    lines = [line for line in lines if line]
    told = [line for line in lines if line.lower().startswith("skip")]
    # GoogleTest prints "file.cc:12: Skipped" and then the message.
    for index, line in enumerate(lines[:-1]):
        if line.endswith(": Skipped"):
            told.append(lines[index + 1])
    return (told or lines or ["it printed no reason"])[-1]


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: skipped_tests.py REPORT.xml")
    cases = ElementTree.parse(sys.argv[1]).iter("testcase")
    skipped = [case for case in cases if case.find("skipped") is not None]
    if skipped:
        print(f"Skipped ({len(skipped)}):")
    for case in skipped:
        print(f"  {case.get('name')}: {reason_of(case)}")


main()
