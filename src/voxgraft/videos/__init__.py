"""Videos as training data: headers, clips decoded at given times, where clips lie, crops.

Decoding needs PyAV (``pip install "voxgraft[video]"``), which is imported when a file is opened.
"""

from voxgraft.videos.clip import read_clip
from voxgraft.videos.container import VIDEO_SUFFIXES, import_av
from voxgraft.videos.header import VideoHeader, check_video, read_video_header
from voxgraft.videos.sampling import clip_frames, clip_places, clip_times_s
from voxgraft.videos.settings import Clips
from voxgraft.videos.spatial import crop, scaled_size

__all__ = [
    "VIDEO_SUFFIXES",
    "Clips",
    "VideoHeader",
    "check_video",
    "clip_frames",
    "clip_places",
    "clip_times_s",
    "crop",
    "import_av",
    "read_clip",
    "read_video_header",
    "scaled_size",
]
