#pragma once
// The program's subcommands. Exit codes: 0 done, 1 failed, 2 wrong use or wrong configuration.

namespace nebula::cli {

int run(int argc, char** argv);

}  // namespace nebula::cli
