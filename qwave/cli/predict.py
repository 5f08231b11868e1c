"""``qwave predict``: what a packed model hears in clips, long recordings and live sound.

qwave predict MODEL.qwave CLIP... [--top 3] [--window 5 --hop 2.5] [--encoder SPEC] [--raw RATE]
    [--timeline FILE.png] [--audacity FILE.txt] [--json]

CLIP is a recording, a folder (every clip below it), or ``-``: WAV on stdin, answered window by
window, until it ends or Ctrl-C.

Exit codes: 0 all clips were predicted, 1 some could not be decoded, 2 none could or the input was
wrong, 130 stopped by Ctrl-C.

With ``--json`` stdout is one object:

    model              the file
    encoder            what made the embeddings, name@digest
    class_names        all of them
    sure_probability   a prediction below it is unsure; 0: no threshold was fitted
    clips              a list; with windows: path, windows, segments; else path, seconds and a
                       prediction's keys
    failed             a list of what could not be decoded: path, fault

    a prediction       label, probability, is_unsure, curiosity (mutual information in nats),
                       top (a list of label, probability), route (a list of expert, scheme, gate;
                       empty for a plain network)
    a window           start, end (seconds), and a prediction's keys
    a segment          start, end, label, is_unsure, probability (mean over its windows)

With ``-`` it is one object a line for each window, as soon as that is complete.
"""

from __future__ import annotations

import argparse
import sys

from qwave.cli.running import say
from qwave.text import expanded, typed_encoder, typed_path

SUMMARY = "say what is heard in clips, recordings or live sound"
DESCRIPTION = (
    "Decode clips, embed them with the encoder that the model was trained with, and print the "
    "likeliest classes. Exit code 1 where some clips could not be decoded, 2 where none could."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``qwave predict``."""
    parser.add_argument(
        "model", metavar="MODEL", type=typed_path, help="a packed file (`qwave export`)"
    )
    parser.add_argument(
        "clips",
        type=expanded,
        metavar="CLIP",
        nargs="+",
        help="a recording, a folder of clips, or - for a WAV stream on stdin",
    )
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes shown: 3")
    parser.add_argument(
        "--encoder",
        type=typed_encoder,
        metavar="SPEC",
        help="NAME, or NAME:FOLDER with its weights; default: the one that the model names",
    )
    parser.add_argument("--json", action="store_true", help="JSON on stdout")
    windows = parser.add_argument_group("long recordings and live sound")
    windows.add_argument(
        "--window",
        type=float,
        metavar="SECONDS",
        help="predict windows of this length; default with --hop or -: the encoder's clip length",
    )
    windows.add_argument(
        "--hop", type=float, metavar="SECONDS", help="from start to start; default: no overlap"
    )
    windows.add_argument(
        "--timeline", type=typed_path, metavar="FILE.png", help="draw the windows"
    )
    windows.add_argument(
        "--audacity", type=typed_path, metavar="FILE.txt", help="write segments as a label track"
    )
    windows.add_argument(
        "--raw", type=int, metavar="RATE", help="stdin is bare 16-bit mono samples at RATE Hz"
    )


def run(arguments: argparse.Namespace) -> int:
    """Predict what was asked for; returns 0, 1 or 2.

    Raises:
        QwaveError: Wrong input.
    """
    if sys.stderr.isatty():  # the libraries of an encoder take seconds; programs need no words
        say(arguments, f"{arguments.model}: loading the model and its encoder")
    from qwave.cli.predicting import predict_and_show

    return predict_and_show(arguments)
