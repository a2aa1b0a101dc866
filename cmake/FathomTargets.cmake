# Helpers shared by every folder: fathom_library, fathom_test, fathom_fuzzer, fathom_benchmark.

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(fathom_flags INTERFACE)
set(CXX_FLAGS
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wno-missing-field-initializers
  # False alarms of GCC 12 on std::string (gcc.gnu.org/PR105329).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  # In a unity build, types of a .cc file look like types of a header.
  $<$<AND:$<CXX_COMPILER_ID:GNU>,$<BOOL:${CMAKE_UNITY_BUILD}>>:-Wno-subobject-linkage>
  # Reproducible arithmetic: a*b+c is fused only where the code says so.
  -ffp-contract=off)
foreach(FLAG ${CXX_FLAGS})
  target_compile_options(fathom_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:${FLAG}>)
endforeach()
target_compile_options(fathom_flags INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>)
target_include_directories(fathom_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
if(FATHOM_SANITIZE)
  target_compile_options(fathom_flags INTERFACE
    -fsanitize=${FATHOM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g1)
  target_link_options(fathom_flags INTERFACE -fsanitize=${FATHOM_SANITIZE})
endif()

# fathom_library(NAME DEPS...): library fathom_NAME of all *.cc here (tests excluded), and its tests.
function(fathom_library NAME)
  file(GLOB SOURCES CONFIGURE_DEPENDS *.cc *.h)
  set(TESTS ${SOURCES})
  list(FILTER SOURCES EXCLUDE REGEX "_test\\.cc$")
  list(FILTER TESTS INCLUDE REGEX "_test\\.cc$")
  add_library(fathom_${NAME} STATIC ${SOURCES})
  set_target_properties(fathom_${NAME} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(fathom_${NAME} PUBLIC fathom_flags ${ARGN})
  if(FATHOM_TESTS AND TESTS)
    fathom_test(${NAME}_test ${TESTS})
    target_link_libraries(${NAME}_test PRIVATE fathom_${NAME})
  endif()
endfunction()

set(FATHOM_TEST_TIMEOUT 300 CACHE STRING "Seconds that one unit test may take")

# fathom_test(NAME SOURCES...): a GoogleTest executable; every TEST is a ctest.
function(fathom_test NAME)
  add_executable(${NAME} ${ARGN})
  target_link_libraries(${NAME} PRIVATE fathom_flags GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_definitions(${NAME} PRIVATE FATHOM_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  # What takes time in a test is in the libraries.
  target_compile_options(${NAME} PRIVATE $<$<CONFIG:Release>:-O1>)
  gtest_discover_tests(${NAME} TEST_PREFIX "${NAME}." DISCOVERY_TIMEOUT 60
                       PROPERTIES TIMEOUT ${FATHOM_TEST_TIMEOUT})
endfunction()

# fathom_fuzzer(NAME SOURCE DEPS...): a libFuzzer executable fuzz_NAME.
function(fathom_fuzzer NAME SOURCE)
  add_executable(fuzz_${NAME} ${SOURCE})
  target_compile_options(fuzz_${NAME} PRIVATE -fsanitize=fuzzer)
  target_link_options(fuzz_${NAME} PRIVATE -fsanitize=fuzzer)
  target_link_libraries(fuzz_${NAME} PRIVATE fathom_flags ${ARGN})
endfunction()

# fathom_benchmark(NAME SOURCE DEPS...): a Google Benchmark executable bench_NAME.
function(fathom_benchmark NAME SOURCE)
  add_executable(bench_${NAME} ${SOURCE})
  target_compile_definitions(bench_${NAME} PRIVATE FATHOM_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_link_libraries(bench_${NAME} PRIVATE fathom_flags benchmark::benchmark_main ${ARGN})
endfunction()
