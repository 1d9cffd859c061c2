// A file of PTX as words and signs, without its comments and debug information.
#pragma once
#include <istream>
#include <map>
#include <string>
#include <vector>

namespace ptx {

struct Token {
    std::string text;
    int line;
    // Of a `.loc`.
    int source_file = 0, source_line = 0;
};

// `source_files`: by the numbers that `.loc` names them by.
std::vector<Token> tokens_of(std::istream& file, std::map<int, std::string>& source_files);

}  // namespace ptx
