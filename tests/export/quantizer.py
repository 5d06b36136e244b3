"""llama.cpp's own quantizer, through llama-cpp-python."""

import ctypes
import os

import llama_cpp

FILE_TYPES = dict(F16=1, BF16=32, Q8_0=7, Q6_K=18, Q5_K_M=17, Q5_K_S=16, Q4_K_M=15, Q4_K_S=14)


@llama_cpp.llama_log_callback
def quiet(level, text, user_data):
    pass


def quantize(source, target, file_type, threads=os.cpu_count()):
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread, params.ftype = threads, file_type
    code = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    assert code == 0, f"llama.cpp's quantizer ended with {code}"
