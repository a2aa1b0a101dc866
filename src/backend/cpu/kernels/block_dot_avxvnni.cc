// block_dot.h for AVX2 with the 256-bit VNNI instructions of laptops (Alder Lake on).
#include "backend/cpu/kernels/block_dot_avx2.cc"  // compiled here with -mavxvnni
