# SPDX-License-Identifier: Apache-2.0
"""A strict reader of the Prometheus text format, version 0.0.4: what a lenient collector would take is an error here."""

import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"^({NAME})(?:\{{(.*)\}})? (\S+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


class ExpositionError(Exception):
    pass


class Family:
    def __init__(self, name, kind, text):
        self.name, self.kind, self.help = name, kind, text
        self.samples = {}  # (name, sorted labels) -> value

    def value(self, suffix="", **labels):
        """The sum of the samples that carry these labels; None if there is none."""
        found = [v for (name, own), v in self.samples.items()
                 if name == self.name + suffix and set(labels.items()) <= set(own)]
        return sum(found) if found else None


def labels_of(text, line):
    labels, at = [], 0
    while at < len(text):
        match = LABEL.match(text, at)
        if not match:
            raise ExpositionError(f"bad labels: {line}")
        labels.append((match[1], match[2]))
        at = match.end()
        if match[3] == "," and at == len(text):
            raise ExpositionError(f"a comma too many: {line}")
    if len({name for name, _ in labels}) != len(labels):
        raise ExpositionError(f"a label twice: {line}")
    return tuple(sorted(labels))


def check_histogram(family):
    series = {}
    for (name, labels), value in family.samples.items():
        rest = tuple(label for label in labels if label[0] != "le")
        one = series.setdefault(rest, {"buckets": {}})
        if name.endswith("_bucket"):
            one["buckets"][float(dict(labels)["le"].replace("+Inf", "inf"))] = value
        else:
            one[name[len(family.name):]] = value
    for labels, one in series.items():
        counts = [count for _, count in sorted(one["buckets"].items())]
        if counts != sorted(counts) or math.inf not in one["buckets"]:
            raise ExpositionError(f"{family.name}{labels}: buckets must grow, up to +Inf")
        if one.get("_count") != one["buckets"][math.inf] or "_sum" not in one:
            raise ExpositionError(f"{family.name}{labels}: _count is not the last bucket, or there is no _sum")


def parse(text):
    """{name: Family}, or ExpositionError."""
    if not text.endswith("\n"):
        raise ExpositionError("no line end at the end")
    families, family, helped = {}, None, None
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            helped = line[7:].split(" ", 1)
            if len(helped) != 2 or not helped[1]:
                raise ExpositionError(f"no help: {line}")
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            if kind not in TYPES or not helped or helped[0] != name or name in families:
                raise ExpositionError(f"wrong type, no help before it, or a family twice: {line}")
            if (kind == "counter") != name.endswith("_total"):
                raise ExpositionError(f"a counter ends in _total, and nothing else does: {line}")
            family = families[name] = Family(name, kind, helped[1])
        else:
            match = SAMPLE.match(line)
            if not match:
                raise ExpositionError(f"no sample: {line}")
            suffix = match[1][len(family.name):] if family and match[1].startswith(family.name) else None
            if suffix not in (("_bucket", "_sum", "_count") if family and family.kind == "histogram" else ("",)):
                raise ExpositionError(f"not of the family before it: {line}")
            key = (match[1], labels_of(match[2] or "", line))
            if key in family.samples:
                raise ExpositionError(f"a sample twice: {line}")
            value = float(match[3].replace("+Inf", "inf"))
            if math.isnan(value) or (family.kind == "counter" and value < 0):
                raise ExpositionError(f"not a value: {line}")
            family.samples[key] = value
    for family in families.values():
        if family.kind == "histogram":
            check_histogram(family)
    return families
