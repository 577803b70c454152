# Compiler, warnings and sanitizers, in one interface target that every target of ours links.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  message(FATAL_ERROR "g++ ${CMAKE_CXX_COMPILER_VERSION} miscompiles coroutines silently; use clang++-19 "
                      "(cmake --preset release) or g++ 13 and later.")
endif()

find_program(NEBULA_CCACHE ccache)
if(NEBULA_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${NEBULA_CCACHE}")
endif()

set(NEBULA_SANITIZE "" CACHE STRING "Value for -fsanitize=, empty for none")
option(NEBULA_FUZZ "Build the libFuzzer targets" OFF)

set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")

add_library(nebula_options INTERFACE)
target_compile_options(nebula_options INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual -Werror
  -fno-omit-frame-pointer -fstack-protector-strong)
target_compile_definitions(nebula_options INTERFACE
  BOOST_ASIO_SEPARATE_COMPILATION BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_NO_EXTENSIONS
  NEBULA_VERSION="${PROJECT_VERSION}")
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND NOT NEBULA_SANITIZE)
  target_compile_definitions(nebula_options INTERFACE _FORTIFY_SOURCE=2)
endif()
target_link_options(nebula_options INTERFACE -fuse-ld=lld)
if(NEBULA_SANITIZE)
  target_compile_options(nebula_options INTERFACE -fsanitize=${NEBULA_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(nebula_options INTERFACE -fsanitize=${NEBULA_SANITIZE})
endif()
if(NEBULA_FUZZ)
  target_compile_options(nebula_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
