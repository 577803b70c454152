#include "cli/cli.hpp"

int main(int argc, char** argv) { return nebula::cli::run(argc, argv); }
