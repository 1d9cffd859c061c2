// From a file of PTX to instructions. A function's body is written out where it is called.
#include "module.h"
#include "tokens.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <tuple>

namespace ptx {
namespace {

struct Symbol {
    enum { Register, Predicate, Shared, DynamicShared, Local, Parameter, Array } kind;
    uint64_t at = 0;
    bool is_wide = false;
};

struct Function {
    std::vector<std::string> returned, parameters;
    size_t body;  // the token behind its brace
};

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts;
    std::istringstream all(text);
    for (std::string part; std::getline(all, part, '.');) parts.push_back(part);
    return parts;
}

// The number in a word: 32 of .f32, 90 of sm_90a.
uint32_t number_in(const std::string& word) {
    const char* digits = word.c_str();
    while (*digits && !std::isdigit(static_cast<unsigned char>(*digits))) ++digits;
    return uint32_t(std::atoi(digits));
}
uint32_t bytes_of(const std::string& type) { return number_in(type) / 8; }

class Parser {
    Module& module_;
    std::vector<Token> tokens_;
    size_t next_ = 0;
    std::map<std::string, Function> functions_;

    // `.align 8 .b8 name[16]` or `.u64 name`: its name, alignment and bytes.
    struct Declared {
        std::string name;
        uint32_t align = 0, element = 0, bytes = 0;
        bool is_open = false;
    };
    std::map<std::string, Declared> shared_;

    // Of the kernel that is being read.
    Kernel* kernel_ = nullptr;
    std::vector<std::map<std::string, Symbol>> scopes_;
    std::map<std::string, uint32_t> labels_;
    std::vector<std::pair<uint32_t, std::string>> branches_;
    std::map<std::tuple<bool, bool, uint64_t>, uint32_t> constants_;
    // What a function that is written out here puts before its labels, and where it returns to.
    std::string prefix_;
    int written_out_ = 0;
    Token place_;

    [[noreturn]] void fail(const std::string& what) const {
        const int line = next_ < tokens_.size() ? tokens_[next_].line : 0;
        fault(module_.path + ":" + std::to_string(line) + ": " + what);
    }
    const std::string& peek(size_t ahead = 0) const {
        static const std::string END;
        return next_ + ahead < tokens_.size() ? tokens_[next_ + ahead].text : END;
    }
    std::string take() {
        if (next_ >= tokens_.size()) fail("the file ends too early");
        return tokens_[next_++].text;
    }
    bool take_if(const char* text) {
        if (peek() != text) return false;
        ++next_;
        return true;
    }
    void expect(const char* text) {
        if (!take_if(text)) fail(std::string("expected ") + text + ", found " + peek());
    }
    uint64_t number(const std::string& text) const {
        char* end;
        const uint64_t value = text[0] == '-' ? uint64_t(std::strtoll(text.c_str(), &end, 0)) : std::strtoull(text.c_str(), &end, 0);
        if (text.empty() || (*end && std::strcmp(end, "U"))) fail("'" + text + "' is no number");
        return value;
    }

    Symbol* find(const std::string& name) {
        for (size_t i = scopes_.size(); i-- > 0;)
            if (auto found = scopes_[i].find(name); found != scopes_[i].end()) return &found->second;
        // A kernel has those shared arrays of the module that it uses.
        if (auto found = shared_.find(name); found != shared_.end() && kernel_)
            return &(scopes_[1][name] = {Symbol::Shared, place(kernel_->shared_bytes, found->second)});
        return nullptr;
    }
    void declare(const std::string& name, Symbol symbol) { scopes_.back()[name] = symbol; }

    Declared declared() {
        Declared one;
        if (take_if(".align")) one.align = uint32_t(number(take()));
        one.element = one.bytes = bytes_of(take());
        one.name = take();
        if (take_if("[")) {
            one.is_open = peek() == "]";
            one.bytes = one.is_open ? 0 : one.element * uint32_t(number(take()));
            expect("]");
        }
        if (!one.align) one.align = one.element;
        return one;
    }
    static uint32_t place(uint32_t& end, const Declared& one) {
        end = (end + one.align - 1) / one.align * one.align;
        const uint32_t at = end;
        end += one.bytes;
        return at;
    }

    uint32_t constant(bool is_wide, uint64_t value) {
        return constant(is_wide, false, value);
    }
    uint32_t constant(bool is_wide, bool is_dynamic, uint64_t value) {
        const auto [found, is_new] = constants_.try_emplace({is_wide, is_dynamic, value}, kernel_->register_words);
        if (is_new) {
            kernel_->constants.push_back({found->second, is_wide, is_dynamic, value});
            kernel_->register_words += is_wide ? 2 : 1;
        }
        return found->second;
    }

    void declare_registers() {
        const std::string type = take();
        do {
            const std::string name = take();
            uint64_t count = 1;
            const bool are_many = take_if("<");
            if (are_many) {
                count = number(take());
                expect(">");
            }
            for (uint64_t i = 0; i < count; ++i) {
                const std::string own = are_many ? name + std::to_string(i) : name;
                if (type == ".pred") {
                    declare(own, {Symbol::Predicate, kernel_->predicates++});
                } else {
                    const bool is_wide = bytes_of(type) == 8;
                    declare(own, {Symbol::Register, kernel_->register_words, is_wide});
                    kernel_->register_words += is_wide ? 2 : 1;
                }
            }
        } while (take_if(","));
        expect(";");
    }

    // What an operand stands for, where an operation wants `wanted` of it.
    uint32_t operand(const std::string& text, char wanted) {
        if (text[0] == '%') {
            static const std::map<std::string, uint32_t> SPECIAL = {
                {"%tid.x", TID_X},     {"%ntid.x", NTID_X},   {"%ntid.y", NTID_Y},     {"%ctaid.x", CTAID_X},   {"%ctaid.y", CTAID_Y},
                {"%ctaid.z", CTAID_Z}, {"%nctaid.x", NCTAID_X}, {"%nctaid.y", NCTAID_Y}, {"%nctaid.z", NCTAID_Z}};
            if (auto found = SPECIAL.find(text); found != SPECIAL.end() && wanted == 'w') return found->second;
        }
        if (const Symbol* symbol = find(text)) {
            switch (symbol->kind) {
                case Symbol::Predicate:
                    if (wanted != 'p') fail(text + " is a predicate");
                    return uint32_t(symbol->at);
                case Symbol::Register:
                    if (wanted != (symbol->is_wide ? 'q' : 'w')) fail(text + " has not as many bytes as the operation");
                    return uint32_t(symbol->at);
                default: return constant(wanted == 'q', symbol->kind == Symbol::DynamicShared, symbol->at);
            }
        }
        if (wanted == 'p') fail(text + " is no predicate");
        const bool is_float = text.size() > 2 && text[0] == '0' && (text[1] == 'f' || text[1] == 'd');
        const uint64_t value = is_float ? std::strtoull(text.c_str() + 2, nullptr, 16) : number(text);
        return constant(wanted == 'q', wanted == 'q' ? value : uint32_t(value));
    }

    void operands(Instruction& one, const std::string& wanted, const std::vector<std::string>& given) {
        if (given.size() != wanted.size()) fail("an operation has another number of operands");
        for (size_t i = 0, n = 0; i < given.size(); ++i) {
            if (wanted[i] == 'i') {
                if (number(given[i])) fail("only 0 is known here");
                continue;
            }
            one.operand[n++] = operand(given[i], wanted[i]);
        }
    }

    // `[base+offset]`; returns what the base is, or null for a register.
    Symbol* address(Instruction& one) {
        expect("[");
        const std::string base = take();
        if (take_if("+")) one.offset = int64_t(number(take()));
        expect("]");
        Symbol* symbol = find(base);
        if (symbol && symbol->kind == Symbol::Register) {
            one.base = uint32_t(symbol->at);
            one.has_wide_base = symbol->is_wide;
            return nullptr;
        }
        if (!symbol) fail("no address is known by the name " + base);
        one.base = constant(true, symbol->kind == Symbol::DynamicShared, symbol->at);
        one.has_wide_base = true;
        return symbol;
    }

    void add(Instruction one) {
        one.source_file = place_.source_file;
        one.source_line = place_.source_line;
        kernel_->code.push_back(one);
    }

    std::vector<std::string> register_list() {
        std::vector<std::string> names;
        if (!take_if("{")) return {take()};
        do names.push_back(take());
        while (take_if(","));
        expect("}");
        return names;
    }

    void memory_access(Instruction one, std::vector<std::string> parts) {
        const bool is_load = parts[0] == "ld";
        if (parts.size() < 3 || parts.size() > 5) fail("this kind of access to memory is not known");
        const std::string type = parts.back();
        size_t part = 1;
        std::string space = parts.at(part++);
        if (parts.at(part) == "nc") ++part;
        std::vector<std::string> registers;
        const auto moved = [&] {
            if (parts.at(part)[0] == 'v') one.vector = uint8_t(std::atoi(parts[part++].c_str() + 1));
            registers = register_list();
            if (registers.size() != one.vector) fail("a vector has another number of elements");
        };
        Symbol* symbol;
        if (is_load) {
            moved();
            expect(",");
            symbol = address(one);
        } else {
            symbol = address(one);
            expect(",");
            moved();
        }
        if (part + 1 != parts.size()) fail("this kind of access to memory is not known");
        // What is handed to a function, and back.
        if (space == "param" && symbol && symbol->kind == Symbol::Local) space = "local";
        const Access* access = is_load ? load(space, type) : store(space, type);
        if (!access) fail("access to ." + space + " of ." + type + " is not known");
        const Symbol* first = find(registers[0]);
        const bool are_wide = first && first->kind == Symbol::Register ? first->is_wide : !access->narrow;
        one.work = are_wide ? access->wide : access->narrow;
        if (!one.work) fail("registers have not as many bytes as the access");
        for (size_t i = 0; i < registers.size(); ++i) one.operand[i] = operand(registers[i], are_wide ? 'q' : 'w');
        add(one);
    }

    // `(returned), name, (parameters)`: its body, here.
    void call() {
        const auto names = [&] {
            std::vector<std::string> all;
            expect("(");
            if (take_if(")")) return all;
            do all.push_back(take());
            while (take_if(","));
            expect(")");
            return all;
        };
        const std::vector<std::string> returned = names();
        expect(",");
        const std::string name = take();
        expect(",");
        const std::vector<std::string> parameters = names();
        expect(";");
        const auto found = functions_.find(name);
        if (found == functions_.end()) fail("the function " + name + " is called, which is not there");
        const Function& function = found->second;
        scopes_.emplace_back();
        const auto is_called = [&](const std::vector<std::string>& own, const std::vector<std::string>& given) {
            if (own.size() != given.size()) fail("a function is called with other parameters");
            for (size_t i = 0; i < own.size(); ++i) {
                const Symbol* symbol = find(given[i]);
                if (!symbol) fail("no parameter is known by the name " + given[i]);
                declare(own[i], *symbol);
            }
        };
        is_called(function.returned, returned);
        is_called(function.parameters, parameters);
        const size_t behind = next_;
        const std::string outer = prefix_;
        prefix_ = "call " + std::to_string(++written_out_) + " ";
        next_ = function.body;
        body();
        labels_[prefix_ + "return"] = uint32_t(kernel_->code.size());
        prefix_ = outer;
        next_ = behind;
        scopes_.pop_back();
    }

    void branch(Instruction one, const std::string& label) {
        one.kind = Kind::Branch;
        branches_.emplace_back(uint32_t(kernel_->code.size()), prefix_ + label);
        add(one);
    }

    void instruction() {
        Instruction one;
        one.line = tokens_[next_].line;
        if (take_if("@")) {
            one.unless = take_if("!");
            one.guard = int(operand(take(), 'p'));
        }
        std::string name = take();
        const std::vector<std::string> parts = split(name);
        if (name == "call.uni") {
            if (one.guard >= 0) fail("a call under a predicate");
            return call();
        }
        if (parts[0] == "bra") {
            branch(one, take());
        } else if (name == "ret") {
            if (prefix_.empty()) {
                one.kind = Kind::Return;
                add(one);
            } else {
                branch(one, "return");
            }
        } else if (parts[0] == "ld" || parts[0] == "st") {
            memory_access(one, parts);
        } else if (name == "cp.async.cg.shared.global") {
            Instruction from;
            if (address(one)) fail("a copy to a place that is not in a register");
            expect(",");
            if (address(from)) fail("a copy from a place that is not in a register");
            expect(",");
            if (take() != "16" || from.offset || !from.has_wide_base) fail("only copies of 16 bytes are known");
            one.operand[0] = from.base;
            const Operation* copy = operation(name);
            one.work = copy->work;
            add(one);
        } else {
            std::vector<std::string> given;
            while (peek() != ";") {
                if (peek() == "{") {
                    if (name == "mov.b64" || name == "mov.b32") name += given.empty() ? ".unpack" : ".pack";
                    for (const std::string& each : register_list()) given.push_back(each);
                } else {
                    given.push_back(take());
                    if (take_if("|")) given.push_back(take());
                }
                if (!take_if(",")) break;
            }
            const Operation* known = operation(name);
            if (!known) fail("the operation " + name + " is not known");
            one.kind = known->kind;
            one.is_product = known->is_product;
            one.work = known->work;
            operands(one, known->operands, given);
            add(one);
        }
        expect(";");
    }

    // Up to the closing brace.
    void body() {
        scopes_.emplace_back();
        while (!take_if("}")) {
            if (peek() == ".loc") {
                place_ = tokens_[next_++];
            } else if (take_if("{")) {
                body();
            } else if (take_if(".reg")) {
                declare_registers();
            } else if (take_if(".shared")) {
                const Declared one = declared();
                declare(one.name, {Symbol::Shared, place(kernel_->shared_bytes, one)});
                expect(";");
            } else if (take_if(".local") || take_if(".param")) {
                const Declared one = declared();
                declare(one.name, {Symbol::Local, place(kernel_->local_bytes, one)});
                expect(";");
            } else if (take_if(".pragma")) {
                while (take() != ";") {
                }
            } else if (peek().empty() || peek()[0] == '.') {
                fail("the directive " + peek() + " is not known");
            } else if (peek(1) == ":") {
                labels_[prefix_ + take()] = uint32_t(kernel_->code.size());
                ++next_;
            } else {
                instruction();
            }
        }
        scopes_.pop_back();
    }

    void skip_body() {
        for (int depth = 1; depth > 0;) {
            const std::string text = take();
            depth += text == "{" ? 1 : text == "}" ? -1 : 0;
        }
    }

    std::vector<Declared> parameters() {
        std::vector<Declared> all;
        expect("(");
        while (take_if(".param")) {
            all.push_back(declared());
            take_if(",");
        }
        expect(")");
        return all;
    }

    void function() {
        Function one;
        if (peek() == "(")
            for (const Declared& returned : parameters()) one.returned.push_back(returned.name);
        const std::string name = take();
        if (peek() == "(")
            for (const Declared& parameter : parameters()) one.parameters.push_back(parameter.name);
        if (take_if(";")) return;
        expect("{");
        one.body = next_;
        functions_[name] = one;
        skip_body();
    }

    void entry() {
        Kernel kernel;
        kernel_ = &kernel;
        kernel.name = take();
        kernel.register_words = SPECIALS;
        scopes_.emplace_back();
        labels_.clear();
        branches_.clear();
        constants_.clear();
        for (const Declared& one : parameters()) {
            uint32_t end = uint32_t(kernel.parameter_bytes);
            const uint32_t at = place(end, one);
            kernel.parameters.push_back({at, one.bytes});
            kernel.parameter_bytes = end;
            declare(one.name, {Symbol::Parameter, at});
        }
        while (!take_if("{")) {
            const std::string directive = take();
            if (directive == ".maxntid") kernel.most_threads = unsigned(number(peek()));
            else if (directive != ".minnctapersm") fail("the directive " + directive + " is not known");
            do take();
            while (take_if(","));
        }
        body();
        // 128: the alignment of dynamic_shared (common.cuh).
        kernel.dynamic_begin = (kernel.shared_bytes + 127) / 128 * 128;
        for (const auto& [at, label] : branches_) {
            const auto found = labels_.find(label);
            if (found == labels_.end()) fail("no label " + label);
            kernel.code[at].target = found->second;
        }
        // Whoever comes to the end has ended.
        Instruction end;
        end.kind = Kind::Return;
        kernel.code.push_back(end);
        const std::string name = kernel.name;
        module_.kernels[name] = std::move(kernel);
        kernel_ = nullptr;
        scopes_.resize(1);
    }

    void array() {
        const Declared one = declared();
        std::vector<unsigned char>& bytes = module_.arrays[one.name];
        bytes.resize(one.bytes);
        if (take_if("=")) {
            if (one.element != 1) fail("only bytes are known as what an array begins with");
            expect("{");
            for (size_t i = 0; !take_if("}"); take_if(",")) {
                if (i == bytes.size()) fail("an array has too few elements");
                bytes[i++] = static_cast<unsigned char>(number(take()));
            }
        }
        expect(";");
        declare(one.name, {Symbol::Array, reinterpret_cast<uintptr_t>(bytes.data())});
    }

    void go_through(bool entries) {
        next_ = 0;
        while (next_ < tokens_.size()) {
            if (take_if(".version") || take_if(".address_size")) {
                take();
            } else if (take_if(".target")) {
                module_.begins_early = number_in(take()) >= 90;
            } else if (take_if(".extern")) {
                expect(".shared");
                const Declared one = declared();
                if (!one.is_open || one.align > 128) fail("only dynamic shared memory is declared elsewhere");
                declare(one.name, {Symbol::DynamicShared});
                expect(";");
            } else if (take_if(".shared")) {
                const Declared one = declared();
                shared_[one.name] = one;
                expect(";");
            } else if (take_if(".global")) {
                array();
            } else if (take_if(".func")) {
                function();
            } else if (take_if(".visible")) {
                expect(".entry");
                if (entries) {
                    entry();
                } else {
                    while (!take_if("{")) ++next_;
                    skip_body();
                }
            } else if (peek() == ".loc") {
                ++next_;
            } else {
                fail("'" + peek() + "' is not known here");
            }
        }
    }

public:
    Parser(Module& module, std::istream& file) : module_(module), tokens_(tokens_of(file, module.source_files)), scopes_(1) {}
    void parse() {
        // Functions may stand behind the kernels that call them.
        go_through(false);
        go_through(true);
    }
};

}  // namespace

std::unique_ptr<Module> read_module(const std::string& path) {
    std::ifstream file(path);
    if (!file) fault("cannot read " + path);
    auto module = std::make_unique<Module>();
    module->path = path;
    Parser(*module, file).parse();
    return module;
}

}  // namespace ptx
