# Writes the files of a folder into a C++ source, with a table that is searched by path.
#   cmake -D ASSETS=FOLDER -D OUTPUT=FILE.cc -P embed_assets.cmake
#
# CMake alone: the build needs neither npm nor Python, and no assembler that knows .incbin. Contents become
# string literals of hexadecimal escapes, which compilers read ten times as fast as lists of numbers.

cmake_minimum_required(VERSION 3.25)

set(type_html "text/html; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_svg "image/svg+xml")
set(type_txt "text/plain; charset=utf-8")

# define_bytes(FILE NAME OUT): the definition of a string_view NAME with FILE's content.
function(define_bytes FILE NAME OUT)
  file(SIZE "${FILE}" size)
  file(READ "${FILE}" digits HEX)
  string(REPEAT "." 128 line)
  string(REGEX REPLACE "(${line})" "\\1\n" lines "${digits}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" escapes "${lines}")
  string(REPLACE "\n" "\"\n    \"" escapes "${escapes}")
  set(${OUT} "constexpr std::string_view ${NAME}(\n    \"${escapes}\",\n    ${size});\n" PARENT_SCOPE)
endfunction()

file(GLOB_RECURSE files RELATIVE "${ASSETS}" "${ASSETS}/*")
# What is not served: compressed forms (part of their file's entry), and the record of the build.
list(FILTER files EXCLUDE REGEX "\\.gz$|^SOURCES$")
list(SORT files COMPARE STRING)
list(LENGTH files count)
if(count EQUAL 0)
  message(FATAL_ERROR "${ASSETS}: no files; scripts/build_web.sh makes them")
endif()

set(index 0)
foreach(file IN LISTS files)
  string(REGEX MATCH "[^.]*$" extension "${file}")
  if(NOT DEFINED type_${extension})
    message(FATAL_ERROR "${file}: no content type for .${extension}; add one to embed_assets.cmake")
  endif()
  define_bytes("${ASSETS}/${file}" "kBody${index}" body)
  file(SHA256 "${ASSETS}/${file}" hash)
  string(SUBSTRING ${hash} 0 20 hash)
  set(cache "no-cache")
  if(file MATCHES "^static/")
    set(cache "public, max-age=31536000, immutable")
  endif()
  set(gzip "")
  set(gzip_fields "{}")
  set(gzip_etag "{}")
  if(EXISTS "${ASSETS}/${file}.gz")
    define_bytes("${ASSETS}/${file}.gz" "kGzip${index}" gzip)
    set(gzip_fields "kGzip${index}")
    set(gzip_etag "\"\\\"${hash}-gz\\\"\"")
  endif()
  string(APPEND definitions "${body}${gzip}")
  string(APPEND entries "    {\"/${file}\",\n     {.content_type = \"${type_${extension}}\",\n"
    "      .etag = \"\\\"${hash}\\\"\",\n      .gzip_etag = ${gzip_etag},\n      .body = kBody${index},\n"
    "      .gzip_body = ${gzip_fields},\n      .cache_control = \"${cache}\"}},\n")
  math(EXPR index "${index} + 1")
endforeach()

file(WRITE "${OUTPUT}" "// Made by embed_assets.cmake.
#include \"server/web/embedded_assets.h\"

// ISO C++ promises literals of 65,536 characters only; compilers take any length.
#pragma GCC diagnostic ignored \"-Woverlength-strings\"

namespace fathom::server {
namespace {

${definitions}
constexpr EmbeddedAsset kAssets[] = {
${entries}};

}  // namespace

std::span<const EmbeddedAsset> embedded_assets() { return kAssets; }

}  // namespace fathom::server
")
