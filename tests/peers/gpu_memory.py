"""Device memory in use by the driver's count, sampled while a command runs. The same measure for everyone.

NVML's figure for the whole GPU, less what it was before the command: it sees contexts, caches and allocators of every kind,
and works where a container hides process ids. Nothing else may use the GPU meanwhile.
"""

import ctypes
import os
import threading


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class Gpu:
    """The first GPU that CUDA would take. `OSError` where there is no driver, `RuntimeError` where it has none."""

    def __init__(self):
        self.nvml = ctypes.CDLL("libnvidia-ml.so.1")
        self._call("nvmlInit_v2")
        self.handle = ctypes.c_void_p()
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
        if first.startswith("GPU-"):
            self._call("nvmlDeviceGetHandleByUUID", first.encode(), ctypes.byref(self.handle))
        else:
            self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(int(first)), ctypes.byref(self.handle))

    def _call(self, name, *arguments):
        status = getattr(self.nvml, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name} fails with status {status}; nvidia-smi says more")

    def name(self):
        text = ctypes.create_string_buffer(96)
        self._call("nvmlDeviceGetName", self.handle, text, ctypes.c_uint(len(text)))
        return text.value.decode()

    def used_bytes(self):
        memory = _Memory()
        self._call("nvmlDeviceGetMemoryInfo", self.handle, ctypes.byref(memory))
        return memory.used


class Sampler:
    """`with Sampler(gpu) as s:` … `s.peak_bytes`, `s.baseline_bytes`."""

    def __init__(self, gpu, interval_seconds=0.02):
        self.gpu, self.interval = gpu, interval_seconds
        self.done = threading.Event()

    def __enter__(self):
        self.baseline_bytes = self.highest = self.gpu.used_bytes()
        self.thread = threading.Thread(target=self._sample)
        self.thread.start()
        return self

    def _sample(self):
        while not self.done.wait(self.interval):
            self.highest = max(self.highest, self.gpu.used_bytes())

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    @property
    def peak_bytes(self):
        return self.highest - self.baseline_bytes
