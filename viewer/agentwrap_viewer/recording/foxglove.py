"""Frames as Foxglove's image schema, in an MCAP file that Foxglove shows without knowing anything of ours.

https://docs.foxglove.dev/docs/visualization/message-schemas/compressed-image
"""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

from mcap.writer import CompressionType, Writer

from .films import Film, overlaid
from .recording import Recording

#: What a message holds, as Foxglove's documents have it.
SCHEMA = {
    "title": "foxglove.CompressedImage",
    "type": "object",
    "properties": {
        "timestamp": {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}},
        "frame_id": {"type": "string"},
        "data": {"type": "string", "contentEncoding": "base64"},
        "format": {"type": "string"},
    },
}


def write_foxglove(recording: Recording, maps: Recording | None, indices: range, path: Path) -> None:
    """Write frames as PNG on the topic ``/frame``; those that have a map with it on ``/saliency`` too; needs Pillow.

    Raises:
        RecordingError: A step has no picture, or one of another size than those before.
    """
    from PIL import Image

    explained = maps.explained if maps is not None else {}
    with open(path, "wb") as file:
        writer = Writer(file, compression=CompressionType.ZSTD)
        writer.start(library="agentwrap-rl viewer")
        schema = writer.register_schema("foxglove.CompressedImage", "jsonschema", json.dumps(SCHEMA).encode())
        frame, saliency = (writer.register_channel(topic, "json", schema) for topic in ("/frame", "/saliency"))
        for index, picture in zip(indices, Film(recording, None, indices), strict=True):
            step = recording.steps[index]
            shown = [(frame, picture)]
            if maps is not None and step.step in explained:
                shown.append((saliency, overlaid(picture, maps.saliency_map(explained[step.step]))))
            time = int(step.time * 1e9)
            for channel, pixels in shown:
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "PNG")
                message = {
                    "timestamp": {"sec": time // 10**9, "nsec": time % 10**9},
                    "frame_id": recording.env_id,
                    "data": base64.b64encode(buffer.getvalue()).decode(),
                    "format": "png",
                }
                writer.add_message(channel, time, json.dumps(message).encode(), time, sequence=step.step)
        writer.finish()  # type: ignore[no-untyped-call]
