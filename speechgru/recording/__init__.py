"""Where programs written for version 0.1.0 find `EventClips`; it lives in `recognition`."""

from speechgru.recognition.recording import EventClips as EventClips
