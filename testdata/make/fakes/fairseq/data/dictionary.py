"""A stand-in with the class name and the fields of fairseq's dictionary."""


class Dictionary:
    def __init__(self, words=()):
        self.bos_word, self.unk_word = "<s>", "<unk>"
        self.pad_word, self.eos_word = "<pad>", "</s>"
        self.symbols, self.count, self.indices = [], [], {}
        for word in (self.bos_word, self.pad_word, self.eos_word, self.unk_word, *words):
            self.indices[word] = len(self.symbols)
            self.symbols.append(word)
            self.count.append(1)
        self.bos_index, self.pad_index, self.eos_index, self.unk_index = 0, 1, 2, 3
        self.nspecial = 4
