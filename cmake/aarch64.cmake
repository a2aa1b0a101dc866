# Cross-compiles for 64-bit ARM Linux with Debian's g++-aarch64-linux-gnu (preset arm64).
#
# The target's libraries stand in build/arm64-sysroot, which scripts/test_arm.sh fills; compiled programs
# run under qemu-user, tests without further ado. QEMU_CPU in the environment picks the processor.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

get_filename_component(ARM64_SYSROOT "${CMAKE_CURRENT_LIST_DIR}/../build/arm64-sysroot" ABSOLUTE)
if(NOT EXISTS "${ARM64_SYSROOT}/usr/include/hwloc.h")
  message(FATAL_ERROR "${ARM64_SYSROOT} has no arm64 libraries: run scripts/test_arm.sh once")
endif()
set(CMAKE_SYSROOT "${ARM64_SYSROOT}")
set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64;-L;${ARM64_SYSROOT}")

# Programs (ccache, Python) are the host's, all else is the target's.
set(CMAKE_FIND_ROOT_PATH "${ARM64_SYSROOT}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_LIBDIR}
    "${ARM64_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${ARM64_SYSROOT}/usr/share/pkgconfig")
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${ARM64_SYSROOT}")
