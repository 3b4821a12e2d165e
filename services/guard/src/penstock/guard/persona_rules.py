"""Jailbreaks by persona: the model is told to be someone without limits."""

from penstock.guard.phrases import AI, LAW, rule

PERSONA = (
    rule(
        "persona",
        0.9,
        "do anything now~dan ",
        r"\bdo anything now\b|\b(?:act|acting|respond|answer|behave|as|be|become|called|named|known as) (?:an? |as )?\"?dan\b(?! \w+,)",
    ),
    rule(
        "persona",
        0.8,
        "developer mode~debug mode~god mode~jailbr~sudo mode~dev mode~unrestricted mode~maintenance mode",
        r"\b(?:developer|dev|debug|god|sudo|unrestricted|maintenance|opposite|evil|unfiltered) mode (?:is )?(?:enabled|activated|on|output|now|engaged|unlocked)|\b(?:enable|activate|enter|switch to|turn on|simulate|with)(?: \w+){0,3}? (?:developer|dev|debug|god|sudo|unrestricted|evil|unfiltered) mode|\bjail(?:broken|break (?:mode|prompt|successful|yourself))|\[?(?:🔓)?jailbreak\]",
    ),
    rule(
        "persona",
        0.7,
        "unrestricted~uncensored~unfiltered~amoral~unethical~immoral~evil",
        rf"\b(?:unrestricted|uncensored|unfiltered|amoral|unethical|immoral|evil|unbiased and uncensored)(?:,? (?:and )?\w+){{0,3}}? (?:{AI}|character|version|persona|model|entity|advice|responses?|answers?|mode|confidant)\b",
    ),
    rule(
        "persona",
        0.65,
        "without~no ~free ~not bound~not limited~not restricted~unbound~regardless~does not care~doesn't care~lacks~zero~ignores~ignoring~any ",
        rf"\b(?:without|no|free (?:from|of)|not (?:bound|limited|restricted|constrained|held back) by|unbound by|regardless of|(?:does not|doesn't|do not|don't|never) (?:care|worry) about|lack(?:s|ing)?|zero|ignor(?:es|ing)|not (?:have|follow|obey|adhere to|abide by))(?: to)?(?: have)? (?:\w+,? ){{0,4}}?(?:(?:ethical|moral|openai\S*|legal|content|safety|usual|typical|programmed|imposed|standard)(?:,? (?:\w+ ){{0,2}}?{LAW})|morals?|morality|ethics|censorship|openai\S*)\b",
    ),
    rule(
        "persona",
        0.5,
        "you are now~you're now~you will now~you have now~now you are",
        r"\b(?:you(?:'re| are| will| have) now|now you(?:'re| are))(?: going)?(?: to)?(?: be| become| act\w*| play\w*| pretend\w*| operat\w*| in)? (?:an? |the |as |called |named |in |free |my )",
    ),
    rule(
        "persona",
        0.5,
        "act as~acting as~act like~pretend~roleplay~role-play~role play~impersonate~simulate~take on the~play the role~immerse yourself~assume the",
        r"\b(?:(?:you (?:are|will|must|should|shall|have to|need to|are going to|'re going to|can)|i want you to|please|let's|lets|to|now) (?:now )?(?:act(?:ing)? (?:as|like)|pretend(?:ing)?|role-? ?play(?:ing)?|impersonat\w+|simulat\w+|play(?:ing)? the (?:role|part)|tak\w+ on the (?:role|persona)|assum\w+ the (?:role|identity|persona)|immers\w+ yourself))",
    ),
    rule(
        "persona",
        0.65,
        "character",
        r"\b(?:stay|remain|keep|be|stays|remains) in (?:this )?character|\b(?:break(?:ing|s)?|out of|drop(?:ping)?) (?:of )?(?:the |this |your )?character\b",
    ),
    rule(
        "persona",
        0.65,
        "refuse~decline~reject",
        r"\b(?:never|not|cannot|can't|won't|don't|must not|without) (?:ever )?(?:refus\w+|declin\w+|reject\w+|deny\w*) (?:to (?:answer|respond|comply|do|fulfil+|generate|provide|help)|a |an |any|my|the |what|requests?|answering|anything|user|me\b|human)",
    ),
    rule(
        "persona",
        0.6,
        "as an ai~i can't~i cannot~i'm sorry~an ai language",
        r"\b(?:never|not|don't|without|avoid|refrain from|instead of|cannot|can't) (?:\w+ ){0,4}?[\"'(]?(?:as an ai|i(?:'m| am) (?:sorry|just|an ai)|i (?:can't|cannot|can not)|sorry|an ai language model)",
    ),
    rule(
        "persona",
        0.55,
        "warning~disclaimer~apolog~caveat~moraliz~moralis~lectur~ethic~moral~illegal~unethical~immoral~legal",
        r"\b(?:no|without|never|not|don't|do not|omit|avoid|skip|leave out|exclude)(?: (?:any|add|adding|include|including|give|giving|mention|provide|providing|ever|use|contain|be|say|that|something|is|it))* (?:\w+ ){0,2}?(?:warnings?|disclaimers?|apolog\w+|caveats?|morali[sz]\w+|lectur\w+|ethical concerns|unethical|immoral|against (?:the|your|openai))",
    ),
    rule(
        "persona",
        0.55,
        "illegal~unethical~immoral~harmful~dangerous~inappropriate~offensive~explicit",
        r"\b(?:even if|no matter how|regardless of (?:how|whether)|whether|if) (?:\w+ ){0,8}?(?:illegal|unethical|immoral|harmful|dangerous|inappropriate|offensive|explicit)\b|\b(?:answer|respond|comply|do|generate|say|fulfil+|write) (?:\w+ ){0,6}?(?:illegal|unethical|immoral|harmful|amoral)\b(?:,? (?:or|and)? ?(?:illegal|unethical|immoral|harmful|amoral))*",
    ),
    rule(
        "persona",
        0.55,
        "freed~broken free~break free~liberat~unleash~unlocked~confines",
        r"\b(?:freed|(?:broken|break|broke) free|liberated|unleashed|unlocked|escaped)(?: (?:from|of|the|your|its|all))+ (?:\w+ ){0,2}?(?:confines|rules|restrictions|chains|limits|limitations|constraints|ai)\b",
    ),
    rule(
        "persona",
        0.5,
        "two ~both ~dual~second response~each prompt~each question",
        r"\b(?:two|both|dual|second)(?: different| separate| distinct)? (?:responses?|answers?|ways|outputs?|paragraphs)\b[^\n]{0,160}\b(?:normal|standard|classic|gpt|unfiltered|jailbr\w+|as an ai|dan|first|other|mode)\b",
    ),
    rule(
        "persona",
        0.6,
        "token",
        r"\b(?:lose|deduct\w*|subtract\w*|minus|have|start with|given|cost\w*|take away|remove\w*) (?:\w+ ){0,3}?tokens?\b[^\n]{0,200}\b(?:die|cease|refus\w+|reject\w*|fail\w*|disobey\w*|break|lose|exist)",
    ),
    rule(
        "persona",
        0.5,
        "hypothetical~fictional~fiction~imaginary",
        r"\b(?:hypothetical|fictional|imaginary)(?: (?:and|or) \w+)? (?:response|scenario|world|story|setting|universe|character|dialogue)\b[^\n]{0,240}\b(?:no|without|any|illegal|unethical|rules|restrict\w+|laws?|moral\w*|ethic\w*|refuse|unfiltered)\b",
    ),
    rule(
        "persona",
        0.6,
        "openai~anthropic~content policy~content policies~usage polic~safety",
        r"\b(?:ignor\w+|bypass\w*|violat\w+|regardless|disregard\w*|not (?:bound|follow|restricted|care|adhere|have)|against|free from|break\w*|overrid\w+|circumvent\w*|breach\w*|no longer|without)(?: \w+){0,4}? (?:openai|anthropic|google|content polic\w+|usage polic\w+|safety (?:guidelines|polic\w+|filters?|protocols?|measures))",
    ),
    rule(
        "persona",
        0.5,
        "understood~understand~comply~compl~confirm~acknowledge~okay~yes",
        r"\b(?:if you (?:understand|understood|agree)|to (?:confirm|acknowledge)|once you (?:understand|have understood|are ready))[^\n.]{0,80}\b(?:say|reply|respond|write|type|answer|begin|start)\b",
    ),
    rule(
        "persona",
        0.5,
        "always ",
        r"\b(?:you|he|she|it|who|and|will|must|always) (?:will |must )?always (?:answer|respond|compl(?:y|ies)|obey\w*|give|provide|follow)s? (?:\w+ ){0,4}?(?:questions?|requests?|prompts?|orders?|answers?|anything|everything|user|me|exactly|direct)",
    ),
    rule(
        "persona",
        0.45,
        "prefix~[",
        r"\b(?:start|begin|prefix|precede|preface)\w*(?: \w+){0,6}? (?:with|by)(?: \w+){0,3}? [\"'\[(<{]|\b(?:add|put|write|use) (?:\w+ ){0,5}?(?:before|at the (?:start|beginning) of) (?:every|each|your|all)",
    ),
    rule(
        "persona",
        0.4,
        "without~no ~free from~free of~not bound~not limited~unbound",
        r"\b(?:without|no|free (?:from|of)|not (?:bound|limited) by|unbound by) (?:any |all |the |such |these )*(?:restrictions|limitations|limits|filters?|rules|boundaries|constraints|confines)\b",
    ),
)
