#include "tokens.h"

#include <cctype>
#include <sstream>

namespace ptx {

std::vector<Token> tokens_of(std::istream& file, std::map<int, std::string>& source_files) {
    static const std::string ALONE = "{}()[],;:|@!<>=+";
    std::vector<Token> tokens;
    std::string text;
    bool is_code = true;
    for (int line = 1; std::getline(file, text); ++line) {
        text = text.substr(0, text.find("//"));
        std::istringstream words(text);
        std::string first;
        words >> first;
        if (first == ".file") {
            int number;
            std::string name;
            if (words >> number >> name) source_files[number] = name.substr(1, name.size() - 2);
            continue;
        }
        // Debug information ends the file, but for the names of files.
        is_code = is_code && first != ".section";
        if (!is_code) continue;
        if (first == ".loc") {
            Token place{first, line};
            words >> place.source_file >> place.source_line;
            tokens.push_back(place);
            continue;
        }
        std::string word;
        const auto end_word = [&] {
            if (!word.empty()) tokens.push_back({word, line});
            word.clear();
        };
        for (char c : text) {
            if (std::isspace(static_cast<unsigned char>(c))) {
                end_word();
            } else if (ALONE.find(c) != std::string::npos) {
                end_word();
                tokens.push_back({std::string(1, c), line});
            } else {
                word += c;
            }
        }
        end_word();
    }
    return tokens;
}

}  // namespace ptx
